package sim

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/cryptotest"
	"time"
)

// seeds is how many worlds TestSeeds makes when SEEDS does not say: few, for it is run under the race detector too.
const seeds = 20

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // a world is small, and makes much garbage
	os.Exit(m.Run())
}

// run lets the world of a seed happen. Raft draws its election timeouts from crypto/rand, and nodes their tokens.
func run(t *testing.T, seed uint64, o Options) Result {
	t.Helper()
	cryptotest.SetGlobalRandom(t, seed)
	return Run(seed, o)
}

// TestSeeds makes worlds, each twice, and wants every one to keep the promise and to be the same both times. SEEDS=n makes n of
// them, from FROM (0) on; SEED=n tells the story of one. MIX is a mix, MUTE and KEEP name troubles to leave out and to leave.
func TestSeeds(t *testing.T) {
	o := options(t)
	if seed, ok := number(t, "SEED"); ok {
		o.Loud = true
		r := run(t, seed, o)
		t.Log("\n" + strings.Join(r.Lines, "\n"))
		if r.Broken != "" {
			t.Errorf("seed %d: %s", seed, r.Broken)
		}
		return
	}
	from, _ := number(t, "FROM")
	count, ok := number(t, "SEEDS")
	if !ok {
		count = seeds
	}
	var all total
	began := cpu()
	for seed := from; seed < from+count; seed++ {
		all.add(check(t, seed, o))
		if all.worlds%1000 == 0 && all.worlds < int(count) {
			t.Log("so far: " + all.line(cpu()-began))
		}
		if all.broken >= 3 {
			break
		}
	}
	t.Log(all.line(cpu() - began))
}

// check makes the world of a seed twice.
func check(t *testing.T, seed uint64, o Options) Result {
	t.Helper()
	first, second := run(t, seed, o), run(t, seed, o)
	switch {
	case first.Broken != "":
		o.Keep = shrink(t, first, o)
		t.Errorf("seed %d: %s; %s tells the story with the troubles that matter", seed, first.Broken, retell(seed, o))
	case first.Sum != second.Sum:
		first.Broken = "two runs differ"
		t.Errorf("seed %d: two runs differ: %x and %x", seed, first.Sum, second.Sum)
	}
	return first
}

// options reads MIX, MUTE and KEEP.
func options(t *testing.T) Options {
	t.Helper()
	return Options{Mix: os.Getenv("MIX"), Mute: list(t, "MUTE"), Keep: list(t, "KEEP")}
}

func list(t *testing.T, variable string) (all []int) {
	t.Helper()
	for _, text := range strings.FieldsFunc(os.Getenv(variable), func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s holds %q", variable, text)
		}
		all = append(all, n)
	}
	return all
}

func number(t *testing.T, variable string) (uint64, bool) {
	t.Helper()
	text, ok := os.LookupEnv(variable)
	if !ok || text == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s is no number", variable, text)
	}
	return n, true
}

// total adds up what worlds contained.
type total struct {
	counts
	worlds, broken int
	virtual        time.Duration
}

func (a *total) add(r Result) {
	a.worlds++
	a.counts.add(r.counts)
	a.virtual += r.Virtual
	if r.Broken != "" {
		a.broken++
	}
}

func (a *total) line(spent time.Duration) string {
	return fmt.Sprintf("%d seeds, %.0f virtual s, %.0f virtual s per CPU s (each seed runs twice), %d failovers, %d fences, "+
		"%d zombies revived, %d credentials stolen, old epochs turned away %d times, %d metastore outages, %d fences lost with one, %d restores, %d restarts, %d partitions, %d stalls, %d moves, %d orders of operators, %d commits, %s at most until it was served again, %d violations",
		a.worlds, a.virtual.Seconds(), 2*a.virtual.Seconds()/spent.Seconds(), a.failovers, a.fences,
		a.zombies, a.stolen, a.refused, a.servers, a.lostFences, a.restores, a.restarts, a.partitions, a.stalls, a.moves, a.orders, a.commits, a.settled, a.broken)
}

// cpu is the time that this process has been on a processor.
func cpu() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
