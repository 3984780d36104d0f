package lab_test

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/pg"
)

// period is that of the job `tick`; ticker is its command, long enough to be killed in the middle.
const (
	period = 2 * time.Second
	ticker = `note() { psql -qXc "INSERT INTO ran (slot, epoch, what) VALUES ('$DUOFLOW_SLOT', $DUOFLOW_EPOCH, '$1')"; }
say() { echo "$1" >"$DUOFLOW_STATUS_FILE.new" && mv "$DUOFLOW_STATUS_FILE.new" "$DUOFLOW_STATUS_FILE"; }
say begun && note begun && sleep 1.2 && note over && say over`
)

// TestScheduledJobIsResumed kills the active host in the middle of a run. The slot is run again by the next epoch, no slot is
// done twice, and none is missing but those that came due while an earlier one ran.
func TestScheduledJobIsResumed(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	store, err := l.StartMetastore(ctx, nil)
	must(t, err)
	conn := connect(ctx, t, store.Admin())
	_, err = conn.Exec(ctx, `CREATE TABLE public.ran (slot timestamptz, epoch bigint, what text)`)
	must(t, err)
	c, err := l.NewCluster(ctx, store, lab.ClusterOptions{Jobs: map[string]lab.Job{
		"tick": {Kind: "command", Command: []string{"sh", "-c", ticker}},
	}})
	must(t, err)
	editJobs(t, c, func(_ string, jobs map[string]any) {
		jobs["tick"].(map[string]any)["schedule"] = "@every " + period.String()
	})
	must(t, c.Start())
	first, err := c.AwaitActive(ctx, "tick", 0)
	must(t, err)
	eventuallyWithin(t, time.Minute, "two slots are done", func() bool { return number(ctx, t, conn, `SELECT count(*) FROM duoflow.run WHERE state = 'done'`) >= 2 })

	shows(ctx, t, c, "tick", "what a run says, and its schedule", func(s *duoflowv1.JobOnNode) bool {
		return s.GetNode() == first.Node && slices.Contains([]string{"begun", "over"}, s.GetStatus()) && s.StatusAgeMs != nil && strings.Contains(s.GetSchedule(), "slot 20")
	})
	// The slot that has begun and is not over, seen as soon as it begins.
	var slot time.Time
	eventuallyWithin(t, time.Minute, "a slot begins", func() bool {
		return conn.QueryRow(ctx, `SELECT slot FROM public.ran GROUP BY slot HAVING count(*) = 1`).Scan(&slot) == nil
	})
	must(t, c.Nodes[first.Node].Kill(ctx))
	killed := time.Now()
	second, err := c.AwaitActive(ctx, "tick", first.Epoch)
	must(t, err)
	if second.Node == first.Node {
		t.Errorf("node %s was killed and is active again", first.Node)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Nodes[second.Node].Process().LogTail(20))
		}
	})
	eventuallyWithin(t, time.Minute, "three slots more are done", func() bool {
		return number(ctx, t, conn, `SELECT count(*) FROM duoflow.run WHERE state = 'done' AND slot > $1`, slot) >= 3
	})
	must(t, c.Nodes[second.Node].StopDaemon(ctx))

	var again time.Time
	if err := conn.QueryRow(ctx, `SELECT n.began FROM duoflow.run o JOIN duoflow.run n USING (job, slot)
		WHERE slot = $1 AND o.state = 'started' AND o.epoch <= $2 AND n.state = 'done' AND n.epoch > $2`, slot, int64(first.Epoch)).Scan(&again); err != nil {
		t.Fatalf("slot %s, interrupted under epoch %d: %v", slot, first.Epoch, err)
	}
	t.Logf("killed to begun again: %s", again.Sub(killed).Round(time.Millisecond))
	for what, sql := range map[string]string{
		"slots done twice":                  `SELECT count(*) FROM (SELECT slot FROM duoflow.run WHERE state = 'done' GROUP BY slot HAVING count(*) > 1) t`,
		"slots whose command ended twice":   `SELECT count(*) FROM (SELECT slot FROM public.ran WHERE what = 'over' GROUP BY slot HAVING count(*) > 1) t`,
		"slots done whose command did not":  `SELECT count(*) FROM duoflow.run r WHERE state = 'done' AND NOT EXISTS (SELECT FROM public.ran a WHERE a.slot = r.slot AND what = 'over')`,
		"commits of an old epoch after new": `SELECT count(*) FROM (SELECT epoch < lag(epoch) OVER (ORDER BY pg_xact_commit_timestamp(xmin)) AS late FROM public.ran) t WHERE late`,
	} {
		if n := number(ctx, t, conn, sql); n != 0 {
			t.Errorf("%d %s", n, what)
		}
	}
	noneMissing(ctx, t, conn)
}

// shows waits until every node, the witness too, shows of a job what is wanted of one node's line.
func shows(ctx context.Context, t *testing.T, c *lab.Cluster, job, what string, want func(*duoflowv1.JobOnNode) bool) {
	t.Helper()
	for asked := range c.Nodes {
		eventuallyWithin(t, time.Minute, asked+" shows "+what, func() bool {
			status, err := c.Status(ctx, asked)
			must(t, err)
			for _, j := range status.GetJobs() {
				if j.GetName() == job && slices.ContainsFunc(j.GetNodes(), want) {
					return true
				}
			}
			return false
		})
	}
}

// TestScheduledJobThatFails: a run that another try may mend is tried again, more and more seldom and not for ever at once; one
// that failed for good leaves the job where it is until the next slot.
func TestScheduledJobThatFails(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	store, err := l.StartMetastore(ctx, nil)
	must(t, err)
	conn := connect(ctx, t, store.Admin())
	job := func(code string) lab.Job {
		return lab.Job{Kind: "command", Command: []string{"sh", "-c", "exit " + code}, Schedule: "@yearly", NoRetry: []int{3}, Group: "group" + code}
	}
	c, err := l.NewCluster(ctx, store, lab.ClusterOptions{Jobs: map[string]lab.Job{"partial": job("5"), "gate": job("3")}})
	must(t, err)
	for _, name := range []string{"partial", "gate"} { // overdue since the first of January
		_, err = conn.Exec(ctx, `INSERT INTO duoflow.run (job, slot, epoch, node, state) VALUES ($1, now() - interval '500 days', 0, 'a', 'seen')`, name)
		must(t, err)
	}
	must(t, c.Start())
	gate, err := c.AwaitActive(ctx, "gate", 0)
	must(t, err)
	failed := func(name string) int {
		return number(ctx, t, conn, `SELECT count(*) FROM duoflow.run WHERE job = $1 AND state = 'failed'`, name)
	}
	// The second try comes at once, the others after pauses of 1, 2, 4 s and so on.
	eventuallyWithin(t, time.Minute, "the partial run is tried four times", func() bool { return failed("partial") >= 4 })
	var pause float64
	must(t, conn.QueryRow(ctx, `SELECT extract(epoch FROM max(began) - min(began)) FROM duoflow.run WHERE job = 'partial' AND state = 'failed'`).Scan(&pause))
	if pause < 2.5 {
		t.Errorf("four tries within %.1f s", pause)
	}
	eventuallyWithin(t, time.Minute, "the job waits for its next try as an active one", func() bool {
		active, err := c.AwaitActive(ctx, "partial", 4)
		return err == nil && active.Epoch >= 5
	})
	now, err := c.AwaitActive(ctx, "gate", 0)
	must(t, err)
	if now != gate || failed("gate") != 1 {
		t.Errorf("the job that failed for good is at %+v, was at %+v; %d tries", now, gate, failed("gate"))
	}
	t.Logf("four tries within %.1f s", pause)
}

// noneMissing wants every slot between the first and the last but those that came due while an earlier one ran.
func noneMissing(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	t.Helper()
	rows, err := conn.Query(ctx, `SELECT slot, ended FROM duoflow.run WHERE state = 'done' ORDER BY slot`)
	must(t, err)
	var slot, ended, before, free time.Time
	done, swallowed := 0, 0
	_, err = pgx.ForEachRow(rows, []any{&slot, &ended}, func() error {
		for missing := before.Add(period); done > 0 && missing.Before(slot); missing = missing.Add(period) {
			swallowed++
			if missing.After(free) {
				t.Errorf("slot %s was never run; nothing else ran then", missing)
			}
		}
		before, free = slot, ended
		done++
		return nil
	})
	must(t, err)
	t.Logf("%d slots done, %d swallowed", done, swallowed)
}

// worker commits numbered rows to the table of its job until its database is gone.
const worker = `i=0
while :; do
  i=$((i+1))
  psql -qXc "INSERT INTO $DUOFLOW_JOB (node, epoch, pid, seq) VALUES ('$DUOFLOW_NODE', $DUOFLOW_EPOCH, $$, $i)" || exit
  sleep 0.05
done`

// workSQL makes the table of a job; the first four columns are what package commitorder reads.
const workSQL = ` (node text, epoch bigint, pid integer, seq bigint, at timestamptz DEFAULT clock_timestamp())`

// twoJobs are two independent jobs, each with a Postgres server of its own, and a third that follows the first.
type twoJobs struct {
	*lab.Cluster
	t        *testing.T
	server   *pg.Server // of the first
	one, two *pgx.Conn
}

func newTwoJobs(ctx context.Context, t *testing.T, l *lab.Lab) *twoJobs {
	t.Helper()
	store, err := l.StartMetastore(ctx, nil)
	must(t, err)
	dir := filepath.Join(l.Dir, "pg-two")
	must(t, os.MkdirAll(dir, 0o755))
	second, err := pg.Start(ctx, pg.Options{Dir: dir, Listen: []string{store.Host}, Settings: map[string]string{"wal_level": "logical"}})
	must(t, err)
	t.Cleanup(func() { must(t, second.Stop(context.Background())) })
	w := &twoJobs{t: t, server: store.Server, one: connect(ctx, t, store.Admin()), two: connect(ctx, t, second.Superuser())}
	for table, conn := range map[string]*pgx.Conn{"one": w.one, "tail": w.one, "two": w.two} {
		_, err := conn.Exec(ctx, "CREATE TABLE public."+table+workSQL)
		must(t, err)
	}
	must(t, commitorder.Watch(ctx, w.one))
	must(t, commitorder.Watch(ctx, w.two))
	command := []string{"sh", "-c", worker}
	w.Cluster, err = l.NewCluster(ctx, store, lab.ClusterOptions{Jobs: map[string]lab.Job{
		"one": {Kind: "command", Command: command}, "two": {Kind: "command", Command: command, Group: "two"},
		"tail": {Kind: "command", Command: command, Group: "tail", Follow: "one"},
	}})
	must(t, err)
	fencers := w.prepare(ctx, l.Dir, second)
	editJobs(t, w.Cluster, func(node string, jobs map[string]any) {
		jobs["one"].(map[string]any)["prefer"] = []string{"a", "b"}
		two := jobs["two"].(map[string]any)
		two["prefer"] = []string{"b", "a"}
		if dsn, ok := fencers[node]; ok {
			two["fence"].(map[string]any)["dsn"] = dsn
		}
	})
	return w
}

// prepare makes the fence of job two in its own server and returns how each node logs in there.
func (w *twoJobs) prepare(ctx context.Context, dir string, server *pg.Server) map[string]string {
	w.t.Helper()
	fencers := map[string]string{}
	args := []string{"metastore", "init", "--yes", "--mirror=false", "--admin-dsn", server.Superuser(), "--job", "two", "--group", "two"}
	for _, node := range []string{"a", "b"} {
		login, password, file := "warden_"+node, rand.Text(), filepath.Join(dir, "warden_"+node)
		must(w.t, os.WriteFile(file, []byte(password), 0o600))
		args = append(args, "--fencer", login, "--password-file", login+"="+file)
		fencers[node] = server.DSN(login, password, "postgres")
	}
	mustCtl(ctx, w.t, w.Cluster, args...)
	return fencers
}

// at brings a job to a node, if it is not there already.
func (w *twoJobs) at(ctx context.Context, job, node string) lab.Active {
	w.t.Helper()
	active, err := w.AwaitActive(ctx, job, 0)
	must(w.t, err)
	if active.Node != node {
		w.t.Logf("job %s began on %s, which was ready first", job, active.Node)
		mustCtl(ctx, w.t, w.Cluster, "switchover", "--job", job, "--to", node, "--yes")
		active, err = w.AwaitActive(ctx, job, active.Epoch)
		must(w.t, err)
	}
	return active
}

// rows waits until a job has committed some more under an epoch.
func (w *twoJobs) rows(ctx context.Context, conn *pgx.Conn, table string, epoch uint64) {
	w.t.Helper()
	sql := "SELECT count(*) FROM public." + table + " WHERE epoch >= $1"
	before := number(ctx, w.t, conn, sql, int64(epoch))
	eventuallyWithin(w.t, time.Minute, "job "+table+" commits", func() bool { return number(ctx, w.t, conn, sql, int64(epoch)) > before+10 })
}

// undisturbed wants one life of job two since it began under that epoch, and none of its rows missing.
func (w *twoJobs) undisturbed(ctx context.Context, when string, active lab.Active) {
	w.t.Helper()
	now, err := w.AwaitActive(ctx, "two", 0)
	must(w.t, err)
	var lives, missing int
	var gap float64
	must(w.t, w.two.QueryRow(ctx, `SELECT count(DISTINCT pid), max(seq) - count(*), max(gap) FROM (
		SELECT pid, seq, extract(epoch FROM at - lag(at) OVER (ORDER BY seq)) AS gap FROM public.two WHERE epoch >= $1) t`,
		int64(active.Epoch)).Scan(&lives, &missing, &gap))
	if now != active || lives != 1 || missing != 0 {
		w.t.Errorf("%s: job two is at %+v, was at %+v; %d lives, %d rows missing", when, now, active, lives, missing)
	}
	w.t.Logf("%s: longest time without a row of job two: %.0f ms", when, gap*1000)
}

// TestTwoJobs: jobs with databases of their own have nothing to do with each other, and one that follows moves with its leader.
func TestTwoJobs(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	w := newTwoJobs(ctx, t, l)
	must(t, w.Start())
	one, two := w.at(ctx, "one", "a"), w.at(ctx, "two", "b")
	tail := w.at(ctx, "tail", "a")
	w.rows(ctx, w.one, "one", one.Epoch)
	w.rows(ctx, w.one, "tail", tail.Epoch)
	w.rows(ctx, w.two, "two", two.Epoch)

	must(t, w.Nodes["a"].Kill(ctx))
	moved, err := w.AwaitActive(ctx, "one", one.Epoch)
	must(t, err)
	followed, err := w.AwaitActive(ctx, "tail", tail.Epoch)
	must(t, err)
	if moved.Node != "b" || followed.Node != "b" {
		t.Errorf("one is at %+v, tail at %+v; want both at b", moved, followed)
	}
	w.rows(ctx, w.one, "one", moved.Epoch)
	w.rows(ctx, w.one, "tail", followed.Epoch)
	w.rows(ctx, w.two, "two", two.Epoch)
	w.undisturbed(ctx, "host of one killed", two)

	must(t, w.Nodes["a"].Start())
	must(t, w.server.Kill())
	w.rows(ctx, w.two, "two", two.Epoch)
	w.undisturbed(ctx, "database of one lost", two)
	must(t, w.server.Restart(ctx))
	w.one = connect(ctx, t, w.adminOfOne())
	w.rows(ctx, w.one, "one", moved.Epoch+1)
	w.rows(ctx, w.one, "tail", followed.Epoch+1)
	w.rows(ctx, w.two, "two", two.Epoch)
	w.undisturbed(ctx, "database of one back", two)
	eventuallyWithin(t, time.Minute, "tail is where one is", func() bool {
		leader, errOne := w.AwaitActive(ctx, "one", 0)
		follower, errTail := w.AwaitActive(ctx, "tail", 0)
		return errOne == nil && errTail == nil && leader.Node == follower.Node
	})
	for table, conn := range map[string]*pgx.Conn{"one": w.one, "tail": w.one, "two": w.two} {
		rows, err := commitorder.Read(ctx, conn, "public."+table)
		must(t, err)
		verdict := commitorder.Examine(rows)
		if !verdict.Sound() || verdict.Rows < 20 {
			t.Errorf("commit order of %s: %+v", table, verdict)
		}
		t.Logf("job %s: %d rows of %d epochs in order", table, verdict.Rows, verdict.Epochs)
	}
}

// adminOfOne is the superuser's way into the database of job one.
func (w *twoJobs) adminOfOne() string {
	u, err := url.Parse(w.server.Superuser())
	must(w.t, err)
	u.Path = "/" + lab.Database
	return u.String()
}

// editJobs changes every node's configuration.
func editJobs(t *testing.T, c *lab.Cluster, edit func(node string, jobs map[string]any)) {
	t.Helper()
	for name, node := range c.Nodes {
		must(t, node.WriteConfig(func(config map[string]any) { edit(name, config["jobs"].(map[string]any)) }))
	}
}

func connect(ctx context.Context, t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctx, dsn)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func number(ctx context.Context, t *testing.T, conn *pgx.Conn, sql string, args ...any) (n int) {
	t.Helper()
	must(t, conn.QueryRow(ctx, sql, args...).Scan(&n))
	return n
}
