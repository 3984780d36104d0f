package airflowctl_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
)

// TestStopWithoutGraceSaysWhereItHung: what the kernel knows is in the output, also of a process that is stopped.
func TestStopWithoutGraceSaysWhereItHung(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: &events{},
		Command: []string{"sh", "-c", `echo $$ > pid; exec sleep 60`},
	})
	for epoch, want := range []string{1: "state S (sleeping)", 2: "state T (stopped)"} {
		if want == "" {
			continue
		}
		must(t, os.RemoveAll(filepath.Join(j.Root(), "pid")))
		takeOver(t, j, claim(uint64(epoch), "a"))
		pid := mainPID(t, j)
		if epoch == 2 {
			must(t, syscall.Kill(pid, syscall.SIGSTOP))
		}
		eventually(t, want, func() bool {
			stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
			return err == nil && strings.Contains(string(stat), "(sleep) "+want[len("state "):][:1])
		})
		must(t, j.Stop(t.Context(), uint64(epoch), 0))
		last := strings.Join(j.Status().LastLines[uint64(epoch)], "\n")
		for _, part := range []string{"process " + strconv.Itoa(pid) + ", " + want, "thread " + strconv.Itoa(pid) + " (sleep), " + want} {
			if !strings.Contains(last, part) {
				t.Errorf("last lines lack %q:\n%s", part, last)
			}
		}
	}
	// One that is asked to end is not described.
	takeOver(t, j, claim(3, "a"))
	must(t, j.Stop(t.Context(), 3, time.Second))
	if last := j.Status().LastLines[3]; len(last) != 0 {
		t.Errorf("after a stop with grace: %q", last)
	}
}

func mainPID(t *testing.T, j *airflowctl.Job) int {
	t.Helper()
	var pid int
	eventually(t, "it has written its process id", func() bool {
		text, err := os.ReadFile(filepath.Join(j.Root(), "pid"))
		if err != nil || !strings.HasSuffix(string(text), "\n") {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	})
	return pid
}

// TestACrashLoopIsExplained: each life that ends at once is reported once, with the last line it wrote.
func TestACrashLoopIsExplained(t *testing.T) {
	m := newMetastore(t)
	seen := &events{}
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: seen,
		Command: []string{"sh", "-c", `echo "before $DUOFLOW_EPOCH"; echo "no module named x, epoch $DUOFLOW_EPOCH" >&2; exit 3`},
	})
	const lives = 5
	var want []string
	for epoch := uint64(1); epoch <= lives; epoch++ {
		takeOver(t, j, claim(epoch, "a"))
		number := strconv.FormatUint(epoch, 10)
		want = append(want, number+": exit 3: no module named x, epoch "+number)
		eventually(t, "the end of life "+number+" is reported", func() bool { return seen.ended() == strings.Join(want, "\n") })
		must(t, j.Stop(t.Context(), epoch, 0))
		lines := strings.Join(j.Status().LastLines[epoch], "\n")
		if lines != "before "+number+"\nno module named x, epoch "+number {
			t.Errorf("last lines of life %s: %q", number, lines)
		}
	}
	if got := seen.ended(); got != strings.Join(want, "\n") {
		t.Errorf("reported:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}
