package lab_test

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// talker is a writer with a lot to say: 16 KiB for each row, so that a pipe is full after four, and a small disk soon.
const talker = `line=$(printf '%016384d' 0)
while :; do
  psql -qXc "INSERT INTO work (node, epoch) VALUES ('$DUOFLOW_NODE', $DUOFLOW_EPOCH)" || exit
  echo "$line"
  sleep 0.02
done`

// quiet writes rows and says nothing.
const quiet = `while :; do
  psql -qXc "INSERT INTO work (node, epoch) VALUES ('$DUOFLOW_NODE', $DUOFLOW_EPOCH)" || exit
  sleep 0.02
done`

const (
	// movesWithin is how long the log, or a job, may be without its leader, or its active node; many times the
	// budget, because the machine that runs the tests does other things as well.
	movesWithin = time.Second
	frozenFor   = 5 * time.Second
	restless    = 2 * time.Second // for so long a job never writes nothing
)

// supervised restarts a daemon whenever it ends, as systemd does.
type supervised struct {
	mu   sync.Mutex
	ends []time.Time
}

// supervise starts a node and keeps it up until the test ends. Its Process may not be asked for meanwhile.
func supervise(t *testing.T, n *lab.Node) *supervised {
	t.Helper()
	must(t, n.Start())
	s := &supervised{}
	ctx, cancel := context.WithCancel(context.Background())
	var joined sync.WaitGroup
	joined.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-n.Process().Done():
			}
			s.mu.Lock()
			s.ends = append(s.ends, time.Now())
			s.mu.Unlock()
			if lab.Pause(ctx, time.Second) != nil {
				return
			}
			if err := n.Start(); err != nil {
				t.Errorf("restart %s: %v", n.Name, err)
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); joined.Wait() })
	return s
}

// ended tells when the daemon has ended for the first time.
func (s *supervised) ended() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ends) == 0 {
		return time.Time{}, false
	}
	return s.ends[0], true
}

// scene is three nodes whose disks can be made to fail.
type scene struct {
	t    *testing.T
	ctx  context.Context
	lab  *lab.Lab
	c    *lab.Cluster
	conn *pgx.Conn
	root *pgx.Conn // the superuser's
	web  *http.Client
	up   map[string]*supervised

	active  lab.Active
	standby string
}

// newScene brings the nodes up with disks that put makes, and waits until t leads the log and the job, a script, runs.
func newScene(t *testing.T, put func(*testing.T, *lab.Node) *disk, job string) (*scene, map[string]*disk) {
	t.Helper()
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	s := &scene{t: t, ctx: ctx, lab: l, up: map[string]*supervised{}}
	side := shell("exec sleep 1000000")
	side.Group = "side"
	s.c, s.conn = prepared(ctx, t, l, lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": shell(job), "side": side}})
	s.root = connect(ctx, t, s.c.Metastore().Admin())
	t.Cleanup(func() {
		for name, n := range s.c.Nodes {
			if text, err := os.ReadFile(n.LogPath()); err == nil && t.Failed() {
				lines := strings.Split(string(text), "\n")
				t.Logf("%s: %s", name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
			}
		}
	})
	disks := map[string]*disk{}
	for _, name := range []string{"a", "b", "t"} {
		disks[name] = put(t, s.c.Nodes[name])
	}
	for name, n := range s.c.Nodes {
		s.up[name] = supervise(t, n)
	}
	s.web = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: operatorTLS(t, l)}}
	var err error
	s.active, err = s.c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	s.standby = other(s.active.Node)
	awaitRow(ctx, t, s.conn, s.active)
	awaitLeader(ctx, t, s.c, "t")
	s.settle()
	return s, disks
}

// settle waits until nobody has had anything to write for a second: of a disk that fails in the middle of a hand-over its
// daemon hears at once.
func (s *scene) settle() {
	s.t.Helper()
	eventuallyWithin(s.t, time.Minute, "the log is quiet", func() bool {
		before, err := s.c.Status(s.ctx)
		must(s.t, err)
		must(s.t, lab.Pause(s.ctx, time.Second))
		after, err := s.c.Status(s.ctx)
		must(s.t, err)
		return before.GetTerm() == after.GetTerm() && before.GetCommit() == after.GetCommit()
	})
}

// leads tells whether a node leads the log, by its own word; false when it does not answer.
func (s *scene) leads(node string) bool {
	value, ok := s.metric(node, "duoflow_raft_leader")
	return ok && value == 1
}

func (s *scene) metric(node, name string) (float64, bool) {
	answer, err := s.web.Get("https://" + s.c.Nodes[node].HTTP() + "/metrics")
	if err != nil {
		return 0, false
	}
	return valueOf(answer, name)
}

// stays wants the job to be where it was while something lasts, with new rows up to its end.
func (s *scene) stays(what string, d time.Duration) {
	s.t.Helper()
	began, rows, grown := time.Now(), s.rows(), time.Now()
	for ; time.Since(began) < d; must(s.t, lab.Pause(s.ctx, 50*time.Millisecond)) {
		if got := s.newest(); got != s.active.Epoch {
			s.t.Fatalf("%s: epoch %d, was %d", what, got, s.active.Epoch)
		}
		if now := s.rows(); now > rows {
			rows, grown = now, time.Now()
		}
		if idle := time.Since(grown); idle > restless {
			s.t.Fatalf("%s: no new row for %s", what, idle)
		}
	}
}

func (s *scene) rows() int64 {
	s.t.Helper()
	var n int64
	must(s.t, s.conn.QueryRow(s.ctx, "SELECT count(*) FROM public.work WHERE epoch = $1", int64(s.active.Epoch)).Scan(&n))
	return n
}

// newest is the highest epoch that has written.
func (s *scene) newest() uint64 {
	s.t.Helper()
	var n int64
	must(s.t, s.conn.QueryRow(s.ctx, "SELECT max(epoch) FROM public.work").Scan(&n))
	return uint64(n)
}

// move switches the job over.
func (s *scene) move() {
	s.t.Helper()
	mustCtl(s.ctx, s.t, s.c, "switchover", "--job", "scheduler", "--to", s.standby, "--yes")
	s.moved()
}

// moved waits until the job runs under a newer epoch, and tells for how long nothing was committed in between.
func (s *scene) moved() time.Duration {
	s.t.Helper()
	next, err := s.c.AwaitActive(s.ctx, "scheduler", s.active.Epoch)
	must(s.t, err)
	awaitRow(s.ctx, s.t, s.conn, next)
	var gap float64
	must(s.t, s.conn.QueryRow(s.ctx, `SELECT extract(epoch FROM
		(SELECT min(pg_xact_commit_timestamp(xmin)) FROM public.work WHERE epoch = $1) -
		(SELECT max(pg_xact_commit_timestamp(xmin)) FROM public.work WHERE epoch < $1))::float8`, int64(next.Epoch)).Scan(&gap))
	s.active, s.standby = next, other(next.Node)
	return time.Duration(gap * float64(time.Second))
}

// ends has the log written to until the named daemon has ended, and wants its log to say why.
func (s *scene) ends(name string, texts ...string) time.Time {
	s.t.Helper()
	var at time.Time
	for over := false; !over; at, over = s.up[name].ended() {
		must(s.t, s.ctx.Err())
		s.stir()
	}
	said, err := os.ReadFile(s.c.Nodes[name].LogPath())
	must(s.t, err)
	for _, text := range texts {
		if !strings.Contains(string(said), text) {
			s.t.Errorf("%s does not say %q", name, text)
		}
	}
	return at
}

// stir makes every node write, without touching the job: the job beside it is moved. Where it may not be moved to, somebody
// takes its fence by hand, and its holder has to take it back.
func (s *scene) stir() {
	s.t.Helper()
	status, err := s.c.Status(s.ctx)
	must(s.t, err)
	for _, job := range status.GetJobs() {
		if job.GetName() != "side" || job.GetHolder() == "" {
			continue
		}
		// Whoever ends in the middle of it may not be able to answer.
		_, code, err := s.c.Ctl(s.ctx, "switchover", "--job", "side", "--to", other(job.GetHolder()), "--yes")
		must(s.t, err)
		if code != 0 {
			_, err = s.root.Exec(s.ctx, `UPDATE duoflow.fence SET epoch = epoch + 1, token = md5(random()::text) WHERE job = 'side'`)
			must(s.t, err)
			must(s.t, lab.Pause(s.ctx, 200*time.Millisecond))
		}
	}
}

// unfit is why a node may not have the job, as the others see it; it may not answer itself.
func (s *scene) unfit(name string) string {
	s.t.Helper()
	status, err := s.c.Status(s.ctx)
	must(s.t, err)
	for _, job := range status.GetJobs() {
		for _, on := range job.GetNodes() {
			if job.GetName() == "scheduler" && on.GetNode() == name {
				return on.GetIneligibleReason()
			}
		}
	}
	return "is not in the status"
}

// failure is one way in which a disk takes no writes.
type failure struct {
	name  string
	put   func(*testing.T, *lab.Node) *disk
	fail  func(*disk) (mend func())
	texts []string // of a daemon that ends on it
}

var failures = []failure{
	{"full", smallDisk, (*disk).fill, []string{"no space left on device", "free space"}},
	{"read-only", realDisk, func(d *disk) func() { d.breakIt(); return d.mend }, []string{"read-only file system", "mount it writable"}},
}

// TestFailedDisk: full, and read-only, under the raft leader, the active node and the standby. A daemon whose log cannot be
// written ends and says what to do; the others go on within a second; the daemon comes back unaided when the disk does.
func TestFailedDisk(t *testing.T) {
	for _, f := range failures {
		t.Run(f.name+" leader", f.underLeader)
		t.Run(f.name+" active", f.underActive)
		t.Run(f.name+" standby", f.underStandby)
	}
}

func (f failure) underLeader(t *testing.T) {
	s, disks := newScene(t, f.put, quiet)
	mend := f.fail(disks["t"])
	var led time.Time
	ended := s.ends("t", f.texts...)
	for led.IsZero() {
		must(t, s.ctx.Err())
		if s.leads("a") || s.leads("b") {
			led = time.Now()
		}
	}
	t.Logf("a new leader was seen %s after the old one had ended", led.Sub(ended))
	if took := led.Sub(ended); took > movesWithin {
		t.Errorf("no leader for %s", took)
	}
	s.stays("without the leader", 3*time.Second)
	s.move()
	mend()
	eventuallyWithin(t, time.Minute, "the node is back", func() bool {
		value, ok := s.metric("t", "duoflow_quorum")
		return ok && value == 1
	})
	s.stir()
	s.stays("with all three", 2*time.Second)
	if value, ok := s.metric("t", "duoflow_quorum"); !ok || value != 1 {
		t.Error("the mended node has ended again")
	}
}

func (f failure) underActive(t *testing.T) {
	s, disks := newScene(t, f.put, talker)
	name := s.active.Node
	mend := f.fail(disks[name])
	s.stays("on the failed disk", 3*time.Second)
	if lost, ok := s.metric(name, `duoflow_job_output_lost_lines{duoflow_job="scheduler"}`); !ok || lost == 0 {
		t.Errorf("%v lines of output are counted as lost", lost)
	}
	s.ends(name, f.texts...)
	gap := s.moved()
	t.Logf("nothing was committed for %s", gap)
	if gap > movesWithin {
		t.Errorf("nothing was committed for %s", gap)
	}
	mend()
	eventuallyWithin(t, time.Minute, "the node may run the job again", func() bool {
		_, code, err := s.c.Ctl(s.ctx, "switchover", "--job", "scheduler", "--to", name, "--yes")
		must(t, err)
		return code == 0
	})
	s.moved()
	s.stays("on the mended disk", 2*time.Second)
}

// underStandby: it has nothing to write yet, and is not given the job to end on that.
func (f failure) underStandby(t *testing.T) {
	const reason = "has a disk that takes no writes"
	s, disks := newScene(t, f.put, quiet)
	name := s.standby
	mend := f.fail(disks[name])
	eventuallyWithin(t, time.Minute, "the standby says that its disk takes no writes", func() bool { return s.unfit(name) == reason })
	out, code, err := s.c.Ctl(s.ctx, "switchover", "--job", "scheduler", "--to", name, "--yes")
	must(t, err)
	if code == 0 || !strings.Contains(out, reason) {
		t.Errorf("it may have the job: %d %s", code, out)
	}
	s.stays("beside a failed standby", 2*time.Second)
	if _, ended := s.up[name].ended(); ended {
		t.Error("the daemon has ended before there was anything to write") // so that the reason was another
	}
	s.ends(name, f.texts...)
	mend()
	why := ""
	defer func() {
		if t.Failed() {
			t.Logf("at the end %s %s", name, why)
		}
	}()
	eventuallyWithin(t, time.Minute, "it is eligible again", func() bool { why = s.unfit(name); return why == "" })
	s.move()
	s.stays("on the mended disk", 2*time.Second)
}

// TestFrozenDisk: a disk that does not answer for five seconds. The job on it does not notice, whatever it prints; under
// the raft leader the leadership moves and the job stays; either recovers unaided.
func TestFrozenDisk(t *testing.T) {
	s, disks := newScene(t, realDisk, talker)
	t.Run("active", func(t *testing.T) {
		s.t = t
		thaw := disks[s.active.Node].freeze()
		s.stays("frozen", frozenFor)
		thaw()
		s.stays("thawed", 2*time.Second)
	})
	t.Run("leader", func(t *testing.T) {
		s.t = t
		thaw := disks["t"].freeze()
		s.stays("frozen", frozenFor)
		leader := "t"
		for _, node := range []string{"a", "b"} {
			if s.leads(node) {
				leader = node
			}
		}
		t.Logf("%s led at the end", leader)
		s.move()
		thaw()
		awaitLeader(s.ctx, t, s.c, "t")
		s.stays("thawed", 2*time.Second)
	})
	for name, one := range s.up {
		if _, ended := one.ended(); ended {
			t.Errorf("%s has ended", name)
		}
	}
}
