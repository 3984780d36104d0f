//go:build airflow

package airflowctl_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/scripts/lab"
)

// scheduler is a job with a real Airflow around it; its lives have epochs that go up.
type scheduler struct {
	*airflowctl.Job
	stack *lab.Airflow
	seen  *events
	dsn   map[string]string
	epoch uint64
	// plugin is a file of the job's plugins folder.
	plugin string
}

// TestARealScheduler does all that needs a real Airflow with one, since its start is what takes long.
func TestARealScheduler(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Hosts: []string{"a"}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	stack, err := l.StartAirflow(ctx, lab.AirflowOptions{Chains: 2, Length: 1})
	must(t, err)
	r := &scheduler{stack: stack, seen: &events{}, dsn: fencers(ctx, t, stack.Store(), "a", "b")}
	r.plugin = filepath.Join(t.TempDir(), "busy.py")
	must(t, os.WriteFile(r.plugin, []byte(busy), 0o644))
	r.Job = newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Airflow, Python: stack.Python(), Warm: true, FenceDSN: r.dsn["a"], Observer: r.seen,
		Env: append(stack.SchedulerEnv(), "AIRFLOW__CORE__PLUGINS_FOLDER="+filepath.Dir(r.plugin)),
	})
	_ = t.Run("an old one ends", r.anOldOneEnds) && // each goes on from where the one before ended
		t.Run("an outage of the metastore is not its end", r.anOutageIsNotItsEnd) &&
		t.Run("one that waits for a lock is found", r.aLockIsFound) &&
		t.Run("one that is stopped is found", r.aStopIsFound) &&
		t.Run("one in a busy loop is found", r.aBusyLoopIsFound) &&
		t.Run("one without Celery's tables ends", r.withoutResultTables) &&
		t.Run("tasks of a LocalExecutor die with it and run again", r.localTasksRunAgain)
}

// next takes over with the next epoch.
func (r *scheduler) next(t *testing.T, j *airflowctl.Job, node string) {
	t.Helper()
	r.epoch++
	takeOver(t, j, claim(r.epoch, node))
}

// anOldOneEnds is TestAnOldLifeIsNotRevived with the real thing: a real scheduler that nobody stops, on the host that
// takes over again, must end by itself and not come back with the new role.
func (r *scheduler) anOldOneEnds(t *testing.T) {
	there := newJob(t, airflowctl.Config{
		Node: "b", Kind: airflowctl.Command, Command: []string{"sleep", "600"}, Env: r.stack.SchedulerEnv(),
		FenceDSN: r.dsn["b"], Observer: &events{},
	})
	r.next(t, r.Job, "a")
	first := lives(t, r.Job, true)
	if len(first) != 1 {
		t.Fatalf("schedulers after the first takeover: %v", first)
	}
	r.next(t, there, "b")
	r.next(t, r.Job, "a")
	eventually(t, "the first scheduler ends by itself", func() bool { return !alive(strconv.Itoa(first[0])) })
	if left := lives(t, r.Job, true); len(left) != 1 {
		t.Errorf("schedulers at the end: %v, want that of epoch 3 alone", left)
	}
	if r.seen.ended() != "" {
		t.Errorf("the third life ended: %s", r.seen.ended())
	}
}

// lives are the processes that run as lives of the job: those that have got credentials, or those that wait for them.
func lives(t *testing.T, j *airflowctl.Job, given bool) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	var found []int
	var seen []string
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended meanwhile
		}
		for _, entry := range strings.Split(string(environ), "\x00") {
			path, ok := strings.CutPrefix(entry, "PGSERVICEFILE=")
			if !ok || !strings.HasPrefix(path, j.Root()) || slices.Contains(seen, path) {
				continue
			}
			_, missing := os.Stat(path)
			if (missing == nil) != given {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			must(t, err)
			seen, found = append(seen, path), append(found, pid)
		}
	}
	return found
}

// fencers sets up the fence and returns how each host logs in.
func fencers(ctx context.Context, t *testing.T, store *lab.Metastore, hosts ...string) map[string]string {
	t.Helper()
	dsn := map[string]string{}
	setup := fence.Setup{Jobs: []string{jobName}, Group: group, Owner: lab.Owner, Mirror: true, Verifiers: map[string]string{}}
	for _, host := range hosts {
		password := rand.Text()
		verifier, err := fence.Verifier(password)
		must(t, err)
		setup.Fencers = append(setup.Fencers, "fencer_"+host)
		setup.Verifiers["fencer_"+host] = verifier
		dsn[host] = store.DSN("fencer_"+host, password, lab.Database)
	}
	must(t, fence.Init(ctx, store.Admin(), setup))
	return dsn
}
