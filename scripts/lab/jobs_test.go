package lab_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// period is that of the job `tick`; ticker is its command, long enough to be killed in the middle.
const (
	period = 2 * time.Second
	ticker = `note() { psql -qXc "INSERT INTO ran (slot, epoch, what) VALUES ('$DUOFLOW_SLOT', $DUOFLOW_EPOCH, '$1')"; }
note begun && sleep 1.2 && note over`
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
