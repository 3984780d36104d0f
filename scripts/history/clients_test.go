package history

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// cluster is a register that moves the job as it is told, at once, and may lie.
type cluster struct {
	duoflowv1.AdminClient
	mu      sync.Mutex
	calls   int
	epoch   uint64
	pending *duoflowv1.PendingTransfer
	// stale answers reads as of an epoch before; deaf never answers.
	stale, deaf bool
}

func (c *cluster) holder(epoch uint64) string { return []string{"a", "b"}[epoch%2] }

func (c *cluster) Status(ctx context.Context, r *duoflowv1.StatusRequest, _ ...grpc.CallOption) (*duoflowv1.StatusResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.deaf || !r.GetLinearizable() {
		return nil, errors.New("no answer")
	}
	if c.calls%10 == 0 { // by itself
		c.epoch, c.pending = c.epoch+1, nil
	}
	job := &duoflowv1.JobStatus{Name: "scheduler", Epoch: c.epoch, Holder: c.holder(c.epoch), Phase: granted, Pending: c.pending}
	if c.stale && c.calls%7 == 0 && c.epoch > 2 {
		job = &duoflowv1.JobStatus{Name: "scheduler", Epoch: c.epoch - 2, Holder: c.holder(c.epoch), Phase: granted}
	}
	return &duoflowv1.StatusResponse{Jobs: []*duoflowv1.JobStatus{{Name: "etl"}, job}}, ctx.Err()
}

func (c *cluster) History(_ context.Context, r *duoflowv1.HistoryRequest, _ ...grpc.CallOption) (*duoflowv1.HistoryResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if c.deaf || !r.GetLinearizable() || r.GetLimit() != 1 {
		return nil, errors.New("no answer")
	}
	return &duoflowv1.HistoryResponse{Entries: []*duoflowv1.HistoryEntry{
		{Job: r.GetJob(), Epoch: c.epoch, Node: c.holder(c.epoch), Kind: "grant"},
	}}, nil
}

func (c *cluster) Switchover(_ context.Context, r *duoflowv1.SwitchoverRequest, _ ...grpc.CallOption) (*duoflowv1.TransferResponse, error) {
	return c.move("switchover", r.GetTo(), r.GetExpectEpoch())
}

func (c *cluster) Failover(_ context.Context, r *duoflowv1.FailoverRequest, _ ...grpc.CallOption) (*duoflowv1.TransferResponse, error) {
	return c.move("failover", r.GetTo(), r.GetExpectEpoch())
}

func (c *cluster) move(kind, to string, epoch uint64) (*duoflowv1.TransferResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	if epoch != c.epoch {
		return nil, problem(codes.Aborted, duoflowv1.Problem_KIND_MOVED)
	}
	if c.calls%4 == 0 { // it may come true, or not
		if c.calls%8 == 0 {
			c.pending = &duoflowv1.PendingTransfer{Kind: kind, To: to}
		}
		return nil, status.Error(codes.Unavailable, "connection lost")
	}
	c.pending = &duoflowv1.PendingTransfer{Kind: kind, To: to}
	return &duoflowv1.TransferResponse{Accepted: true}, nil
}

func problem(code codes.Code, kind duoflowv1.Problem_Kind) error {
	full, err := status.New(code, "no").WithDetails(&duoflowv1.Problem{Kind: kind})
	if err != nil {
		panic(err)
	}
	return full.Err()
}

// ask lets three clients work until the cluster was called often enough, and returns what they wrote down.
func ask(t *testing.T, c *cluster, calls int) []Operation {
	t.Helper()
	cfg := Config{Job: "scheduler", Candidates: []string{"a", "b"}, File: filepath.Join(t.TempDir(), "history.jsonl"), Pace: time.Millisecond}
	for range 3 {
		cfg.Clients = append(cfg.Clients, []Endpoint{{Node: "a", Admin: c}, {Node: "b", Admin: c}})
	}
	clients, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	clients.Asking(true)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- clients.Run(ctx) }()
	for done := false; !done; {
		c.mu.Lock()
		done = c.calls >= calls
		c.mu.Unlock()
		clients.Foreign(func() Outcome { return Refused }) // is not written down
		time.Sleep(time.Millisecond)
	}
	clients.Foreign(func() Outcome { return Done })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	all, err := ReadFile(cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestClients: what they write down of a sound cluster is sound, and of one that lies is not.
func TestClients(t *testing.T) {
	v := Judge(ask(t, &cluster{epoch: 1}, 2000), limit)
	if len(v.Wrong)+len(v.Undecided) > 0 {
		t.Errorf("a sound cluster: %+v", v)
	}
	if v.Reads < 300 || v.Asks < 20 || v.Refused < 20 || v.Unknown < 5 || v.Epochs < 20 || v.Operations != v.Reads+v.Asks+v.Refused+v.Unknown+1 {
		t.Errorf("not every kind of operation was made, or one is missing: %+v", v)
	}
	if v := Judge(ask(t, &cluster{epoch: 1, stale: true}, 1000), limit); len(v.Wrong) == 0 {
		t.Errorf("a cluster that answers with the past: %+v", v)
	}
	if all := ask(t, &cluster{deaf: true}, 100); len(all) != 1 {
		t.Errorf("reads without an answer are written down: %v", all)
	}
}

func TestNewChecks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	good := func() Config {
		return Config{Job: "j", Candidates: []string{"a", "b"}, File: path, Pace: 1, Clients: [][]Endpoint{{{Node: "a"}}}}
	}
	for name, spoil := range map[string]func(*Config){
		"no job":         func(c *Config) { c.Job = "" },
		"no client":      func(c *Config) { c.Clients = nil },
		"nobody to ask":  func(c *Config) { c.Clients = [][]Endpoint{{}} },
		"one candidate":  func(c *Config) { c.Candidates = slices.Clone(c.Candidates[:1]) },
		"no pace":        func(c *Config) { c.Pace = 0 },
		"no such folder": func(c *Config) { c.File = filepath.Join(path, "x", "y") },
	} {
		cfg := good()
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOutcome(t *testing.T) {
	for want, errs := range map[Outcome][]error{
		Done: {nil},
		Refused: {
			problem(codes.Aborted, duoflowv1.Problem_KIND_MOVED), problem(codes.FailedPrecondition, duoflowv1.Problem_KIND_UNSAFE),
			problem(codes.Unavailable, duoflowv1.Problem_KIND_NO_QUORUM),
		},
		Unknown: {
			problem(codes.DeadlineExceeded, duoflowv1.Problem_KIND_TIMEOUT), problem(codes.Internal, duoflowv1.Problem_KIND_FAILED),
			status.Error(codes.Unavailable, "connection lost"), context.DeadlineExceeded,
		},
	} {
		for _, err := range errs {
			if got := outcome(err); got != want {
				t.Errorf("%v: %s, want %s", err, got, want)
			}
		}
	}
}
