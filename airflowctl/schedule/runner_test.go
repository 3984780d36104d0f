package schedule_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/schedule"
)

// TestSlotsAreRunAndNoted: each slot once, in order, with its name in the environment; nothing before the first sight.
func TestSlotsAreRunAndNoted(t *testing.T) {
	b, file := newBench(t), filepath.Join(t.TempDir(), "slots")
	r := b.run(1, "@every 1s", `echo "$DUOFLOW_SLOT" >>`+file)
	eventually(t, "three slots are run", func() bool { return len(lines(file)) >= 3 })
	eventually(t, "as many are noted", func() bool { return strings.Count(b.rows(), "done") == len(lines(file)) })
	must(t, r.stop())
	ran := lines(file)
	if !slices.IsSorted(ran) || len(slices.Compact(slices.Clone(ran))) != len(ran) {
		t.Errorf("slots %v", ran)
	}
	first := b.query(`SELECT to_char(slot AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') FROM duoflow.run WHERE job = $1 AND state = 'seen'`, b.job)
	if ran[0] <= first {
		t.Errorf("slot %s was run, the job was first seen at %s", ran[0], first)
	}
}

// TestFirstSightRunsNothing: a slot of last month is no business of a job that is new; the next life sees it as known.
func TestFirstSightRunsNothing(t *testing.T) {
	b, file := newBench(t), filepath.Join(t.TempDir(), "ran")
	for epoch := uint64(1); epoch <= 2; epoch++ {
		r := b.run(epoch, "@monthly", "touch "+file)
		eventually(t, "the job is seen", func() bool { return b.rows() != "" })
		must(t, r.stop())
	}
	if got := b.rows(); got != "1 seen -" || len(lines(file)) != 0 {
		t.Errorf("rows %q", got)
	}
}

// TestMissedSlotIsCaughtUpOnce: a hundred days of missed months are one run, of the latest.
func TestMissedSlotIsCaughtUpOnce(t *testing.T) {
	b, file := newBench(t), filepath.Join(t.TempDir(), "slots")
	b.overdue()
	for epoch := uint64(1); epoch <= 2; epoch++ {
		r := b.run(epoch, "@monthly", `echo "$DUOFLOW_SLOT" >>`+file)
		eventually(t, "it is done", func() bool { return b.rows() == "0 seen -, 1 done 0" })
		must(t, r.stop())
	}
	if want := time.Now().UTC().Format("2006-01-") + "01T00:00:00Z"; len(lines(file)) != 1 || lines(file)[0] != want {
		t.Errorf("ran %v, want %s", lines(file), want)
	}
}

// TestFencedInTheMiddle: a run that ends after the next epoch has begun is not done; the next epoch runs the slot again.
func TestFencedInTheMiddle(t *testing.T) {
	b, gate := newBench(t), filepath.Join(t.TempDir(), "gate")
	b.overdue()
	old := b.run(1, "@monthly", "while ! [ -e "+gate+" ]; do sleep 0.01; done")
	eventually(t, "the slot is begun", func() bool { return b.rows() == "0 seen -, 1 started -" })
	r := b.run(2, "@monthly", "exit 0")
	eventually(t, "the next epoch has done it", func() bool { return b.rows() == "0 seen -, 1 started -, 2 done 0" })
	must(t, os.WriteFile(gate, nil, 0o600))
	if err := old.wait(); !errors.Is(err, schedule.ErrFenced) {
		t.Errorf("the old runner ended with %v", err)
	}
	must(t, r.stop())
	if got := b.rows(); got != "0 seen -, 1 started -, 2 done 0" {
		t.Errorf("rows %q", got)
	}
}

// TestFailedSlotIsTriedAgain by the next life, which is the daemon's to start.
func TestFailedSlotIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.overdue()
	r := b.run(1, "@monthly", "exit 3")
	var exit *schedule.ExitError
	if err := r.wait(); !errors.As(err, &exit) || exit.Code != 3 || b.rows() != "0 seen -, 1 failed 3" {
		t.Errorf("ended with %v, rows %q", err, b.rows())
	}
	r = b.run(2, "@monthly", "kill -KILL $$")
	if err := r.wait(); !errors.As(err, &exit) || exit.Code != 137 || !strings.HasSuffix(b.rows(), "2 failed 137") {
		t.Errorf("ended with %v, rows %q", err, b.rows())
	}
	r = b.run(3, "@monthly", "true")
	eventually(t, "it is done", func() bool { return strings.HasSuffix(b.rows(), "3 done 0") })
	must(t, r.stop())
}

// TestFailedSlotIsLeftAlone: the second failure is not answered at once, and the life waits with it.
func TestFailedSlotIsLeftAlone(t *testing.T) {
	b, file := newBench(t), filepath.Join(t.TempDir(), "ran")
	b.overdue()
	_, err := b.admin.Exec(t.Context(), `INSERT INTO duoflow.run (job, slot, epoch, node, state, ended, exit)
		SELECT $1, date_trunc('month', now(), 'UTC'), n, 'a', 'failed', now(), 5 FROM generate_series(1, 20) n`, b.job)
	must(t, err)
	began := time.Now()
	r := b.run(21, "@monthly", "echo ran >"+file)
	r.idle(2 * time.Second)
	if len(lines(file)) != 0 || strings.Contains(b.rows(), "21 ") {
		t.Errorf("tried again after %s", time.Since(began))
	}
	_, err = b.admin.Exec(t.Context(), `UPDATE duoflow.run SET ended = now() - interval '1 hour' WHERE job = $1 AND state = 'failed'`, b.job)
	must(t, err)
	must(t, r.stop())
	r = b.run(22, "@monthly", "touch "+file)
	eventually(t, "it is done", func() bool { return strings.HasSuffix(b.rows(), "22 done 0") })
	must(t, r.stop())
}

// TestNoRetry: a run that has failed for good is not tried again, and the life goes on to the next slot.
func TestNoRetry(t *testing.T) {
	b, dir := newBench(t), t.TempDir()
	config := func(epoch uint64, text, script string) *running {
		slots, err := schedule.Parse(text)
		must(t, err)
		return b.start(schedule.Config{Schedule: slots, Command: []string{"sh", "-c", script}, NoRetry: []int{2, 3}, Ledger: b.table(epoch, b.take(epoch))})
	}
	b.overdue()
	r := config(1, "@monthly", "exit 3")
	eventually(t, "it has failed", func() bool { return b.rows() == "0 seen -, 1 failed 3" })
	must(t, r.stop()) // it has not ended by itself
	r = config(2, "@monthly", "echo ran >"+dir+"/again")
	r.idle(time.Second)
	must(t, r.stop())
	if b.rows() != "0 seen -, 1 failed 3" || len(lines(dir+"/again")) != 0 {
		t.Errorf("rows %q", b.rows())
	}
	r = config(3, "@every 1s", "exit 3")
	eventually(t, "each slot has its try", func() bool { return strings.Count(b.rows(), "3 failed 3") >= 2 })
	must(t, r.stop())
	r = config(4, "@every 1s", "exit 1")
	var exit *schedule.ExitError
	if err := r.wait(); !errors.As(err, &exit) || exit.Code != 1 {
		t.Errorf("ended with %v", err)
	}
}

func TestCommandThatDoesNotExist(t *testing.T) {
	b := newBench(t)
	b.overdue()
	slots, err := schedule.Parse("@monthly")
	must(t, err)
	r, err := schedule.New(schedule.Config{
		Schedule: slots, Command: []string{"/nonexistent/program"}, Ledger: b.table(1, b.take(1)),
	})
	must(t, err)
	var exit *schedule.ExitError
	if err := r.Run(t.Context()); !errors.As(err, &exit) || exit.Code != 127 || b.rows() != "0 seen -, 1 failed 127" {
		t.Errorf("ended with %v, rows %q", err, b.rows())
	}
}

// TestStopReachesTheCommand: it gets the chance to end well, but its slot counts as interrupted, also with exit code 0.
func TestStopReachesTheCommand(t *testing.T) {
	b, file := newBench(t), filepath.Join(t.TempDir(), "said")
	b.overdue()
	r := b.run(1, "@monthly", "trap 'echo bye >"+file+"; exit 0' TERM; echo ready >"+file+"; while :; do sleep 0.01; done")
	eventually(t, "the command runs", func() bool { return slices.Equal(lines(file), []string{"ready"}) })
	must(t, r.stop())
	if got := b.rows(); !slices.Equal(lines(file), []string{"bye"}) || got != "0 seen -, 1 started -" {
		t.Errorf("command said %v, rows %q", lines(file), got)
	}
	r = b.run(2, "@monthly", "true")
	eventually(t, "it is run again", func() bool { return strings.HasSuffix(b.rows(), "2 done 0") })
	must(t, r.stop())
}

// TestOutageIsWaitedFor: a database that is away when a run ends is told later; the run is not repeated.
func TestOutageIsWaitedFor(t *testing.T) {
	b, dir := newBench(t), t.TempDir()
	b.overdue()
	r := b.run(1, "@monthly", "echo ran >>"+dir+"/ran; while ! [ -e "+dir+"/gate ]; do sleep 0.01; done; echo over >"+dir+"/over")
	eventually(t, "the slot is begun", func() bool { return len(lines(dir+"/ran")) == 1 })
	must(t, server.Kill())
	must(t, os.WriteFile(dir+"/gate", nil, 0o600))
	eventually(t, "the command has ended", func() bool { return len(lines(dir+"/over")) == 1 })
	must(t, server.Restart(t.Context()))
	b.reconnect()
	eventually(t, "the end is noted", func() bool { return b.rows() == "0 seen -, 1 done 0" })
	must(t, r.stop())
	if len(lines(dir+"/ran")) != 1 {
		t.Errorf("ran %v", lines(dir+"/ran"))
	}
}

// TestCommandDiesWithItsRunner, which here is a process of its own that finds its credentials by PGSERVICEFILE.
func TestCommandDiesWithItsRunner(t *testing.T) {
	b, dir := newBench(t), t.TempDir()
	b.overdue()
	must(t, fence.WriteServiceFile(dir+"/service", b.take(1).ServiceFile("duoflow"), -1, -1))
	runner := exec.Command("/proc/self/exe")
	runner.Env = append(os.Environ(), runnerEnv+"=echo $$ >"+dir+"/pid; exec sleep 1000",
		"PGSERVICEFILE="+dir+"/service", "PGSERVICE=duoflow", "DUOFLOW_JOB="+b.job, "DUOFLOW_NODE=a", "DUOFLOW_EPOCH=1")
	runner.Stderr = t.Output()
	must(t, runner.Start())
	eventually(t, "the command runs", func() bool { return len(lines(dir+"/pid")) == 1 })
	must(t, runner.Process.Signal(syscall.SIGKILL))
	_ = runner.Wait()
	pid, err := strconv.Atoi(lines(dir + "/pid")[0])
	must(t, err)
	eventually(t, "the command is dead", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
	if got := b.rows(); got != "0 seen -, 1 started -" {
		t.Errorf("rows %q", got)
	}
}

func TestNewRefuses(t *testing.T) {
	slots, err := schedule.Parse("@daily")
	must(t, err)
	table := schedule.NewTable("", schedule.Life{})
	for _, c := range []schedule.Config{
		{}, {Schedule: slots, Ledger: table}, {Command: []string{"true"}, Ledger: table}, {Schedule: slots, Command: []string{"true"}},
	} {
		if _, err := schedule.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
