package admin_test

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/duoflow/duoflow/node/admin"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

const patience = 10 * time.Second // far above what any call here takes

func TestNewRefuses(t *testing.T) {
	ca := newAuthority(t)
	optional, anonymous := ca.server(), ca.server()
	optional.ClientAuth = tls.VerifyClientCertIfGiven
	anonymous.ClientCAs = nil
	good := admin.Config{Listen: "127.0.0.1:0", Node: newFakeNode(), Version: "v1"}
	for _, test := range []struct {
		name   string
		change func(*admin.Config)
		want   []string
	}{
		{"plain on every address", func(c *admin.Config) { c.Listen = ":7402" }, []string{"loopback"}},
		{"plain on an address of the network", func(c *admin.Config) { c.Listen = "10.0.0.1:7402" }, []string{"loopback"}},
		{"plain on a host name", func(c *admin.Config) { c.Listen = "a.example.org:7402" }, []string{"loopback"}},
		{"no port", func(c *admin.Config) { c.Listen = "127.0.0.1" }, []string{"missing port"}},
		{"optional client certificates", func(c *admin.Config) { c.TLS = optional }, []string{"ClientAuth"}},
		{"the system's authorities", func(c *admin.Config) { c.TLS = anonymous }, []string{"ClientCAs"}},
		{"everything at once", func(c *admin.Config) { *c = admin.Config{} }, []string{"Listen", "Node", "Version"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := good
			test.change(&config)
			_, err := admin.New(config)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
	for _, listen := range []string{"127.0.0.1:0", "127.8.8.8:7402", "[::1]:0", "localhost:0"} {
		config := good
		config.Listen = listen
		if _, err := admin.New(config); err != nil {
			t.Errorf("plain on %s: %v", listen, err)
		}
	}
}

func TestRunSaysWhyItCannotListen(t *testing.T) {
	taken := serve(t, newFakeNode(), nil)
	server, err := admin.New(admin.Config{Listen: taken.addr, Node: newFakeNode(), Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("Run = %v, want address already in use", err)
	}
}

// A daemon may be told to end while it starts: that is no error either.
func TestRunEndsAtAnyMoment(t *testing.T) {
	for i := range 200 {
		if err := runAndEnd(t, i%2 == 0); err != nil {
			t.Fatalf("Run = %v in round %d", err, i)
		}
	}
}

// runAndEnd ends Run as soon as it listens, or before it begins.
func runAndEnd(t *testing.T, before bool) error {
	t.Helper()
	server, err := admin.New(admin.Config{Listen: "127.0.0.1:0", Node: newFakeNode(), Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if before {
		cancel()
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	if !before {
		eventually(t, "the server listens", func() bool { return server.Addr() != "" })
	}
	cancel()
	return <-ended
}

// verbs calls each verb once, the forced failover too.
var verbs = []struct {
	name     string
	smallest string
	call     func(context.Context, duoflowv1.AdminClient) error
}{
	{"status", "viewer", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Status(ctx, &duoflowv1.StatusRequest{})
		return err
	}},
	{"history", "viewer", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.History(ctx, &duoflowv1.HistoryRequest{})
		return err
	}},
	{"explain", "viewer", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Explain(ctx, &duoflowv1.ExplainRequest{Job: "scheduler"})
		return err
	}},
	{"version", "viewer", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Version(ctx, &duoflowv1.VersionRequest{})
		return err
	}},
	{"spread", "viewer", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Spread(ctx, &duoflowv1.SpreadRequest{})
		return err
	}},
	{"doctor", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Doctor(ctx, &duoflowv1.DoctorRequest{})
		return err
	}},
	{"switchover", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Switchover(ctx, &duoflowv1.SwitchoverRequest{Job: "scheduler"})
		return err
	}},
	{"failover", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Failover(ctx, &duoflowv1.FailoverRequest{Job: "scheduler"})
		return err
	}},
	{"logs", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Logs(ctx, &duoflowv1.LogsRequest{Job: "scheduler"})
		return err
	}},
	{"restart", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Restart(ctx, &duoflowv1.RestartRequest{Job: "scheduler"})
		return err
	}},
	{"cancel", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Cancel(ctx, &duoflowv1.CancelRequest{Job: "scheduler"})
		return err
	}},
	{"pause", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Pause(ctx, &duoflowv1.PauseRequest{Job: "scheduler", Level: "moves"})
		return err
	}},
	{"resume", "operator", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Resume(ctx, &duoflowv1.ResumeRequest{Job: "scheduler"})
		return err
	}},
	{"config", "admin", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Config(ctx, &duoflowv1.ConfigRequest{})
		return err
	}},
	{"failover --force", "admin", func(ctx context.Context, c duoflowv1.AdminClient) error {
		_, err := c.Failover(ctx, &duoflowv1.FailoverRequest{Job: "scheduler", Force: true})
		return err
	}},
}

func TestRoles(t *testing.T) {
	ca := newAuthority(t)
	node := newFakeNode()
	server := serve(t, node, ca.server())
	rank := map[string]int{"viewer": 1, "operator": 2, "admin": 3}
	for _, who := range []struct {
		name  string
		units []string
		role  string
	}{
		{"vera", []string{"viewer"}, "viewer"},
		{"b", []string{"node"}, "viewer"},
		{"nobody", nil, "viewer"},
		{"case", []string{"Admin", "ADMIN"}, "viewer"},
		{"olga", []string{"operator"}, "operator"},
		{"both", []string{"viewer", "operator"}, "operator"},
		{"alice", []string{"admin"}, "admin"},
	} {
		client := dial(t, server.addr, ca.client(ca.issue(who.name, who.units...)))
		for _, verb := range verbs {
			t.Run(who.name+" "+verb.name, func(t *testing.T) {
				before := node.calls()
				err := verb.call(within(t, patience), client)
				if rank[who.role] >= rank[verb.smallest] {
					if err != nil {
						t.Fatalf("refused: %v", err)
					}
					return
				}
				problem := wantProblem(t, err, codes.PermissionDenied, duoflowv1.Problem_KIND_DENIED)
				if !strings.Contains(problem.GetWhat(), verb.smallest) || !strings.Contains(problem.GetWhat(), who.name) {
					t.Errorf("the refusal %q names neither the role nor the caller", problem.GetWhat())
				}
				if node.calls() != before {
					t.Error("the node was asked")
				}
			})
		}
	}
}

// TestNodeKnowsWhoAsks: what is kept of an operator's wish says whose it was.
func TestNodeKnowsWhoAsks(t *testing.T) {
	ca := newAuthority(t)
	client := dial(t, serve(t, newFakeNode(), ca.server()).addr, ca.client(ca.issue("olga", "operator")))
	answer, err := client.Pause(within(t, patience), &duoflowv1.PauseRequest{Job: "scheduler", Level: "moves"})
	if err != nil || answer.GetAfter().GetBy() != "olga" {
		t.Errorf("%v, %v", answer, err)
	}
}

func TestWhoIsNotServed(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	node := newFakeNode()
	server := serve(t, node, ca.server())
	foreign := other.issue("mallory", "admin")
	for _, test := range []struct {
		name      string
		transport credentials.TransportCredentials
		want      string
	}{
		{"plain text", nil, ""},
		// In TLS 1.3 the client believes to be done before the server refuses: which error it sees is chance.
		{"no certificate", ca.client(), ""},
		{"a certificate of another authority", credentials.NewTLS(&tls.Config{
			RootCAs: ca.pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &foreign, nil // Go's client would rather send none than one nobody asked for
			},
		}), ""},
		{"an old version of TLS", credentials.NewTLS(&tls.Config{
			RootCAs: ca.pool, Certificates: []tls.Certificate{ca.issue("alice", "admin")}, MaxVersion: tls.VersionTLS12,
		}), "protocol version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := dial(t, server.addr, test.transport).Status(within(t, patience), &duoflowv1.StatusRequest{})
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), test.want) {
				t.Errorf("err = %v, want Unavailable with %q", err, test.want)
			}
		})
	}
	if node.calls() != 0 {
		t.Errorf("the node was asked %d times", node.calls())
	}
}

func TestPlainLoopbackCallerIsAdmin(t *testing.T) {
	server := serve(t, newFakeNode(), nil)
	client := dial(t, server.addr, nil)
	for _, verb := range verbs {
		if err := verb.call(within(t, patience), client); err != nil {
			t.Errorf("%s: %v", verb.name, err)
		}
	}
	eventually(t, "the log names the caller", func() bool {
		return strings.Contains(server.log.String(), "caller=local") && strings.Contains(server.log.String(), "verb=failover")
	})
}

func TestRequestsAreLogged(t *testing.T) {
	ca := newAuthority(t)
	server := serve(t, newFakeNode(), ca.server())
	olga := dial(t, server.addr, ca.client(ca.issue("olga", "operator")))
	for _, verb := range verbs { // the last is refused
		verb.call(within(t, patience), olga)
	}
	for _, want := range [][]string{
		{"level=DEBUG", "caller=olga", "verb=status"},
		{"level=INFO", "caller=olga", "verb=switchover", "took="},
		{"level=WARN", "caller=olga", "verb=failover", "err=", "admin"},
	} {
		eventually(t, strings.Join(want, " "), func() bool { return hasLine(server.log.String(), want) })
	}
}

func hasLine(text string, parts []string) bool {
	for line := range strings.Lines(text) {
		found := true
		for _, part := range parts {
			found = found && strings.Contains(line, part)
		}
		if found {
			return true
		}
	}
	return false
}

func TestMalformedRequests(t *testing.T) {
	node := newFakeNode()
	client := dial(t, serve(t, node, nil).addr, nil)
	ctx := within(t, patience)
	for name, call := range map[string]func() error{
		"no job": func() error {
			_, err := client.Switchover(ctx, &duoflowv1.SwitchoverRequest{})
			return err
		},
		"job of a strange name": func() error {
			_, err := client.Switchover(ctx, &duoflowv1.SwitchoverRequest{Job: "../x"})
			return err
		},
		"node of a strange name": func() error {
			_, err := client.Failover(ctx, &duoflowv1.FailoverRequest{Job: "scheduler", To: "B"})
			return err
		},
		"endless wait": func() error {
			_, err := client.Failover(ctx, &duoflowv1.FailoverRequest{Job: "scheduler", TimeoutMs: 1 << 63})
			return err
		},
		"huge history": func() error {
			_, err := client.History(ctx, &duoflowv1.HistoryRequest{Limit: 1001})
			return err
		},
		"logs without end": func() error {
			_, err := client.Logs(ctx, &duoflowv1.LogsRequest{Job: "scheduler", Lines: 1001})
			return err
		},
		"explain a strange job": func() error {
			_, err := client.Explain(ctx, &duoflowv1.ExplainRequest{Job: "a b"})
			return err
		},
		"doctor of a strange job": func() error {
			_, err := client.Doctor(ctx, &duoflowv1.DoctorRequest{Job: "a b"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, call(), codes.InvalidArgument, duoflowv1.Problem_KIND_USAGE) })
	}
	_, err := client.Switchover(ctx, &duoflowv1.SwitchoverRequest{Job: strings.Repeat("a", 100<<10)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of 100 KiB: %v, want ResourceExhausted", err)
	}
	if node.calls() != 0 {
		t.Errorf("the node was asked %d times", node.calls())
	}
}

func TestMalformedOrders(t *testing.T) {
	node := newFakeNode()
	client := dial(t, serve(t, node, nil).addr, nil)
	ctx := within(t, patience)
	for name, call := range map[string]func() error{
		"plan for a year ahead": func() error {
			_, err := client.Switchover(ctx, &duoflowv1.SwitchoverRequest{Job: "scheduler", InMs: 365 * 24 * 3_600_000})
			return err
		},
		"restart of no job": func() error {
			_, err := client.Restart(ctx, &duoflowv1.RestartRequest{})
			return err
		},
		"cancel for no job": func() error {
			_, err := client.Cancel(ctx, &duoflowv1.CancelRequest{})
			return err
		},
		"pause at no level": func() error {
			_, err := client.Pause(ctx, &duoflowv1.PauseRequest{Job: "scheduler"})
			return err
		},
		"pause for a year": func() error {
			_, err := client.Pause(ctx, &duoflowv1.PauseRequest{Job: "scheduler", Level: "moves", ForMs: 365 * 24 * 3_600_000})
			return err
		},
		"pause for a novel": func() error {
			_, err := client.Pause(ctx, &duoflowv1.PauseRequest{Job: "scheduler", Level: "moves", Reason: strings.Repeat("x", 501)})
			return err
		},
		"resume of no job": func() error {
			_, err := client.Resume(ctx, &duoflowv1.ResumeRequest{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { wantProblem(t, call(), codes.InvalidArgument, duoflowv1.Problem_KIND_USAGE) })
	}
	if node.calls() != 0 {
		t.Errorf("the node was asked %d times", node.calls())
	}
}

func TestHistoryHasADefaultLimit(t *testing.T) {
	node := newFakeNode()
	client := dial(t, serve(t, node, nil).addr, nil)
	if _, err := client.History(within(t, patience), &duoflowv1.HistoryRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := node.last().(*duoflowv1.HistoryRequest).GetLimit(); got != 50 {
		t.Errorf("limit = %d, want 50", got)
	}
}

func TestErrorsOfTheNode(t *testing.T) {
	node := newFakeNode()
	client := dial(t, serve(t, node, nil).addr, nil)
	problem := func(kind duoflowv1.Problem_Kind) error {
		return &admin.Problem{Kind: kind, What: "this is wrong", Mend: "do that"}
	}
	for _, test := range []struct {
		fail error
		code codes.Code
		kind duoflowv1.Problem_Kind
	}{
		{problem(duoflowv1.Problem_KIND_USAGE), codes.InvalidArgument, duoflowv1.Problem_KIND_USAGE},
		{problem(duoflowv1.Problem_KIND_UNSAFE), codes.FailedPrecondition, duoflowv1.Problem_KIND_UNSAFE},
		{problem(duoflowv1.Problem_KIND_NO_QUORUM), codes.Unavailable, duoflowv1.Problem_KIND_NO_QUORUM},
		{problem(duoflowv1.Problem_KIND_TIMEOUT), codes.DeadlineExceeded, duoflowv1.Problem_KIND_TIMEOUT},
		{problem(duoflowv1.Problem_KIND_MOVED), codes.Aborted, duoflowv1.Problem_KIND_MOVED},
		{problem(duoflowv1.Problem_KIND_FAILED), codes.Internal, duoflowv1.Problem_KIND_FAILED},
		{errors.Join(errors.New("more"), problem(duoflowv1.Problem_KIND_UNSAFE)), codes.FailedPrecondition, duoflowv1.Problem_KIND_UNSAFE},
		{errors.New("this is wrong"), codes.Internal, duoflowv1.Problem_KIND_FAILED},
		{context.DeadlineExceeded, codes.DeadlineExceeded, duoflowv1.Problem_KIND_TIMEOUT},
	} {
		t.Run(test.kind.String(), func(t *testing.T) {
			node.mu.Lock()
			node.fail = test.fail
			node.mu.Unlock()
			_, err := client.Switchover(within(t, patience), &duoflowv1.SwitchoverRequest{Job: "scheduler"})
			got := wantProblem(t, err, test.code, test.kind)
			var sent *admin.Problem
			if errors.As(test.fail, &sent) && (got.GetWhat() != sent.What || got.GetMend() != sent.Mend) {
				t.Errorf("got %q, %q; sent %q, %q", got.GetWhat(), got.GetMend(), sent.What, sent.Mend)
			}
		})
	}
}

// Protobuf sends no string that is not UTF-8; the output of a job and texts of a database may be that.
func TestTextThatIsNoUTF8(t *testing.T) {
	node := newFakeNode()
	client := dial(t, serve(t, node, nil).addr, nil)
	node.history.Entries = []*duoflowv1.HistoryEntry{{Reason: "caf\xe9", LastLines: []string{"ok", "\xff\xfe"}}}
	answer, err := client.History(within(t, patience), &duoflowv1.HistoryRequest{})
	if err != nil {
		t.Fatal(err)
	}
	entry := answer.GetEntries()[0]
	if entry.GetReason() != "caf\uFFFD" || entry.GetLastLines()[0] != "ok" || entry.GetLastLines()[1] != "\uFFFD" {
		t.Errorf("entry = %v", entry)
	}
	node.mu.Lock()
	node.fail = errors.New("caf\xe9")
	node.mu.Unlock()
	_, err = client.History(within(t, patience), &duoflowv1.HistoryRequest{})
	if got := wantProblem(t, err, codes.Internal, duoflowv1.Problem_KIND_FAILED); got.GetWhat() != "caf\uFFFD" {
		t.Errorf("what = %q", got.GetWhat())
	}
}

func TestTimeoutEndsTheWait(t *testing.T) {
	node := newFakeNode()
	node.hang = true
	client := dial(t, serve(t, node, nil).addr, nil)
	began := time.Now()
	_, err := client.Failover(within(t, patience), &duoflowv1.FailoverRequest{Job: "scheduler", Wait: true, TimeoutMs: 20})
	wantProblem(t, err, codes.DeadlineExceeded, duoflowv1.Problem_KIND_TIMEOUT)
	if took := time.Since(began); took > patience/2 {
		t.Errorf("took %v, want about 20 ms", took)
	}
}

func TestRunWaitsForCallsInFlight(t *testing.T) {
	node := newFakeNode()
	node.hang, node.linger = true, 50*time.Millisecond
	server := serve(t, node, nil)
	client := dial(t, server.addr, nil)
	answered := make(chan error, 1)
	go func() {
		_, err := client.Switchover(within(t, time.Minute), &duoflowv1.SwitchoverRequest{Job: "scheduler", Wait: true})
		answered <- err
	}()
	<-node.hanging
	if err := server.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if node.returned.Load() != 1 {
		t.Error("Run returned while a handler still ran")
	}
	if err := <-answered; err == nil {
		t.Error("the call that was cut off succeeded")
	}
}

// A panic must end the process: the operating system then ends the job with it.
func TestPanicEndsTheProcess(t *testing.T) {
	if os.Getenv("ADMIN_TEST_PANIC") != "" {
		client := dial(t, serve(t, panicking{newFakeNode()}, nil).addr, nil)
		client.Status(within(t, patience), &duoflowv1.StatusRequest{})
		return // reached only when the panic was recovered
	}
	child := exec.Command(os.Args[0], "-test.run=^TestPanicEndsTheProcess$")
	child.Env = append(os.Environ(), "ADMIN_TEST_PANIC=1")
	output, err := child.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "panic: invariant broken") {
		t.Errorf("the process ended with %v:\n%s", err, output)
	}
}

type panicking struct{ *fakeNode }

func (panicking) Status(context.Context, *duoflowv1.StatusRequest) (*duoflowv1.StatusResponse, error) {
	panic("invariant broken")
}

func wantProblem(t *testing.T, err error, code codes.Code, kind duoflowv1.Problem_Kind) *duoflowv1.Problem {
	t.Helper()
	s := status.Convert(err)
	if s.Code() != code || len(s.Details()) != 1 {
		t.Fatalf("err = %v with %d details, want %v with a problem", err, len(s.Details()), code)
	}
	problem, ok := s.Details()[0].(*duoflowv1.Problem)
	if !ok || problem.GetKind() != kind {
		t.Fatalf("detail = %v, want a problem of kind %v", s.Details()[0], kind)
	}
	return problem
}
