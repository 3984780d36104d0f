//go:build airflow

package airflowctl_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/scripts/lab"
)

// TestAnOldSchedulerEnds is TestAnOldLifeIsNotRevived with the real thing: a real scheduler that nobody stops, on the
// host that takes over again, must end by itself and not come back with the new role.
func TestAnOldSchedulerEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Hosts: []string{"a"}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	stack, err := l.StartAirflow(ctx, lab.AirflowOptions{})
	must(t, err)
	dsn := fencers(ctx, t, stack.Store(), "a", "b")

	seen := &events{}
	here := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Airflow, Python: stack.Python(), Env: stack.SchedulerEnv(),
		FenceDSN: dsn["a"], Observer: seen,
	})
	there := newJob(t, airflowctl.Config{
		Node: "b", Kind: airflowctl.Command, Command: []string{"sleep", "600"}, Env: stack.SchedulerEnv(),
		FenceDSN: dsn["b"], Observer: &events{},
	})
	takeOver(t, here, claim(1, "a"))
	first := schedulers(t, here)
	if len(first) != 1 {
		t.Fatalf("schedulers after the first takeover: %v", first)
	}
	takeOver(t, there, claim(2, "b"))
	takeOver(t, here, claim(3, "a"))
	eventually(t, "the first scheduler ends by itself", func() bool { return !slices.Contains(schedulers(t, here), first[0]) })
	if left := schedulers(t, here); len(left) != 1 {
		t.Errorf("schedulers at the end: %v, want that of epoch 3 alone", left)
	}
	if seen.ended() != "" {
		t.Errorf("the third life ended: %s", seen.ended())
	}
}

// schedulers lists the service files of the processes that run as lives of the job.
func schedulers(t *testing.T, j *airflowctl.Job) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	var found []string
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err != nil {
			continue // the process has ended meanwhile
		}
		for _, entry := range strings.Split(string(environ), "\x00") {
			path, ok := strings.CutPrefix(entry, "PGSERVICEFILE="+j.Root())
			if ok && !slices.Contains(found, path) {
				found = append(found, path)
			}
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
