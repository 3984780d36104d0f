package lab_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// writer commits a row every now and then with the credentials of its epoch.
const writer = `while :; do
  psql -qXc "INSERT INTO work (node, epoch) VALUES ('$DUOFLOW_NODE', $DUOFLOW_EPOCH)" || exit
  sleep 0.02
done`

func TestClusterFailsOver(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, conn := writers(ctx, t, l)

	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	awaitRow(ctx, t, conn, first)
	if inside := pids(t, c.Nodes[first.Node].Host); len(inside) < 3 {
		t.Errorf("processes %v on node %s: the job is not among them", inside, first.Node)
	}
	must(t, c.Nodes[first.Node].Kill(ctx))
	second, err := c.AwaitActive(ctx, "scheduler", first.Epoch)
	must(t, err)
	if second.Node == first.Node {
		t.Errorf("node %s was killed and is active again", first.Node)
	}
	awaitRow(ctx, t, conn, second)
	must(t, c.Nodes[first.Node].Start())
	must(t, c.Nodes[second.Node].StopDaemon(ctx))
	third, err := c.AwaitActive(ctx, "scheduler", second.Epoch)
	must(t, err)
	awaitRow(ctx, t, conn, third)
	var disorder int
	must(t, conn.QueryRow(ctx, `SELECT count(*) FROM (SELECT epoch < lag(epoch) OVER
		(ORDER BY pg_xact_commit_timestamp(xmin)) AS late FROM public.work) AS t WHERE late`).Scan(&disorder))
	if disorder != 0 {
		t.Errorf("%d rows of an old epoch were committed after a newer one's", disorder)
	}
}

// awaitRow waits until the active epoch has committed something.
func awaitRow(ctx context.Context, t *testing.T, conn *pgx.Conn, active lab.Active) {
	t.Helper()
	eventually(t, "the active epoch commits a row", func() bool {
		var found bool
		must(t, conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM public.work WHERE node = $1 AND epoch = $2)",
			active.Node, int64(active.Epoch)).Scan(&found))
		return found
	})
}
