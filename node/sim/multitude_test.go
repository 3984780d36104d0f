package sim

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// manyJobs is how many TestManyJobs makes when JOBS does not say.
const manyJobs = 60

// peaceful is a plan without troubles, for what is to be measured.
func peaceful() plan {
	p := drawPlan(rand.New(rand.NewPCG(1, 1)))
	p.detection, p.delayLeast, p.delayMost, p.slowly, p.drop, p.twice = "lan", 50*time.Microsecond, 200*time.Microsecond, 0, 0, 0
	p.skew, p.wallOff, p.fsyncMost, p.lag = 0, 0, 5*time.Millisecond, time.Millisecond
	p.snapshotEvery, p.keepEntries = 10_000, 100 // about what raftstore has
	p.faults, p.ambush = nil, ambush{}
	return p
}

// many is a world of many jobs as it goes on.
type many struct {
	*cluster
	t     *testing.T
	names []lease.JobName
}

func newMany(t *testing.T, count int) *many {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	trace := newTrace(false)
	w := newWorld(1, trace)
	c := newCluster(w, peaceful(), Options{}, regroup{})
	c.multitude = newMultitude(w, count)
	t.Cleanup(c.end)
	return &many{cluster: c, t: t, names: sortedJobs(c.multitude.jobs)}
}

// agreed is what a log that is up to date says of a job.
func (m *many) agreed(name lease.JobName) lease.Job { return m.oracle.log.state.Agreed(name) }

// served reports whether every job runs under its epoch on a daemon that lives.
func (m *many) served() bool {
	for _, name := range m.names {
		job := m.agreed(name)
		if job.Phase != lease.Granted || uint64(job.Epoch) != m.multitude.begun[name].epoch {
			return false
		}
		if d := m.daemonOf(job.Holder); d == nil || d.dead || job.Token != d.token {
			return false
		}
	}
	return true
}

func (m *many) daemonOf(id lease.NodeID) *daemon {
	for _, h := range m.hosts {
		if h.name == string(id) {
			return h.daemon
		}
	}
	return nil
}

// on lists the jobs that a node holds.
func (m *many) on(id lease.NodeID) []lease.JobName {
	return slices.DeleteFunc(slices.Clone(m.names), func(name lease.JobName) bool { return m.agreed(name).Holder != id })
}

// await lets time go by until something is so, for five minutes of the world's at most.
func (m *many) await(what string, so func() bool) {
	m.t.Helper()
	for end := m.w.now + 5*time.Minute; !so(); {
		if m.w.now >= end || m.oracle.broken != "" {
			m.t.Fatalf("%s: not within 5 m; %s", what, m.oracle.broken)
		}
		m.w.until(m.w.now + 10*time.Millisecond)
	}
}

// TestManyJobs spreads JOBS (60) jobs over two hosts, kills one, wants the other to have all, and lets the first come back to
// nothing. It tells what that costs in memory, in the log, and in the time of the world.
func TestManyJobs(t *testing.T) {
	count := manyJobs
	if text := os.Getenv("JOBS"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil || count < 2 {
			t.Fatalf("JOBS=%q; want a number of 2 or more", text)
		}
	}
	if got, want := playMany(t, count), count/2; got < want || got > count-want {
		t.Errorf("host b had %d of %d jobs", got, count)
	}
}

// TestManyJobsAreRepeatable: the same world twice is the same.
func TestManyJobsAreRepeatable(t *testing.T) {
	var sums []uint64
	for range 2 {
		m := newMany(t, 8)
		m.begin()
		sums = append(sums, m.w.trace.sum)
	}
	if sums[0] != sums[1] {
		t.Errorf("two runs of a world: %x and %x", sums[0], sums[1])
	}
}

// begin lets all jobs be granted for the first time.
func (m *many) begin() {
	for _, h := range m.hosts {
		h.boot()
	}
	m.await("all jobs are served", m.served)
}

// playMany returns how many jobs were on the host that was killed.
func playMany(t *testing.T, count int) int {
	t.Helper()
	began, before := cpu(), inUse()
	m := newMany(t, count)
	m.begin()
	first := m.w.now
	m.w.until(first + 2*time.Second)
	m.report("all served for the first time after %s; %s; CPU so far %s", first, m.cost(before), cpu()-began)

	lost := m.on("b")
	killed := m.w.now
	m.daemonOf("b").die(false)
	m.await("the survivor serves all", func() bool { return len(m.on("b")) == 0 && m.served() })
	var took []time.Duration
	for _, name := range lost {
		took = append(took, m.multitude.begun[name].at-killed)
	}
	m.report("host b is killed: its %d jobs run again after %s; %s; CPU so far %s", len(lost), quantiles(took), m.cost(before), cpu()-began)

	m.w.until(m.w.now + time.Second) // the last reports
	last := m.oracle.log.last
	m.hosts[1].up()
	m.w.until(m.w.now + 3*time.Second)
	if n := len(m.on("b")); n > 0 {
		m.t.Errorf("host b came back, and %d jobs moved to it by themselves", n)
	}
	m.report("host b is back for 3 s: %d entries in the log since", m.oracle.log.last-last)
	return len(lost)
}

func (m *many) report(format string, args ...any) {
	m.t.Helper()
	m.t.Logf("%d jobs: %s", len(m.names), fmt.Sprintf(format, args...))
}

// cost is what three nodes have in memory, with the log and the oracle that the world keeps of it, and what is in the log.
func (m *many) cost(before uint64) string {
	held := float64(inUse()-before) / (1 << 20)
	entries, size := 0, 0
	for _, e := range m.hosts[0].disk.image.entries {
		entries, size = entries+1, size+len(e.GetData())
	}
	beat := 0
	if d := m.daemonOf("a"); d != nil {
		beat = d.said
	}
	return fmt.Sprintf("%.1f MB for three nodes and the world; log %d entries, %.1f kB kept of %d; snapshot %.1f kB; a beat of host a %.1f kB",
		held, m.oracle.log.last, float64(size)/1024, entries, float64(len(m.oracle.log.state.Snapshot()))/1024, float64(beat)/1024)
}

func inUse() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

func quantiles(took []time.Duration) string {
	if len(took) == 0 {
		return "nothing"
	}
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return took[min(len(took)-1, int(q*float64(len(took))))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %s, p99 %s, max %s", at(0.5), at(0.99), took[len(took)-1].Round(time.Millisecond))
}
