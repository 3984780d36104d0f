//go:build upgrade

package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// before is the last state of the tree in which a cluster had one life and all its nodes in the configuration.
const before = "a960086"

// TestUpgrade goes from a commit of before to this tree and back, node by node, with a job that commits all the time. Each direction has one
// move, which the operator asks for.
func TestUpgrade(t *testing.T) {
	from := os.Getenv("DUOFLOW_UPGRADE_FROM")
	if from == "" {
		from = before
	}
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	old, err := l.BuildCommit(ctx, from)
	must(t, err)
	for _, program := range []string{"./cmd/duoflowd", "./cmd/duoctl"} {
		_, err := l.Build(ctx, program)
		must(t, err)
	}
	current := filepath.Join(l.Dir, "tools")
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{Programs: old, Jobs: map[string]lab.Job{"scheduler": shell(writer)}})
	tellOnFailure(ctx, t, c)
	must(t, c.Start())
	active, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	commits(ctx, t, conn, active)
	for _, way := range []struct{ name, programs string }{{"there", current}, {"back", old}, {"there again", current}} {
		t.Logf("%s: %+v", way.name, active)
		c.Use(way.programs)
		must(t, c.PrepareMetastore(ctx))
		active = roll(ctx, t, c, active)
		commits(ctx, t, conn, active)
		inOrder(ctx, t, conn)
	}
}

// roll has every node run what the cluster uses now: the witness, the standby, and, when the job has moved, who was active.
func roll(ctx context.Context, t *testing.T, c *lab.Cluster, active lab.Active) lab.Active {
	t.Helper()
	for _, name := range []string{"t", other(active.Node)} {
		renew(ctx, t, c, name, active.Epoch)
	}
	mustCtlSoon(ctx, t, c, "switchover", "--to", other(active.Node), "--yes")
	moved, err := c.AwaitActive(ctx, "scheduler", active.Epoch)
	must(t, err)
	if moved.Epoch != active.Epoch+1 || moved.Node != other(active.Node) {
		t.Fatalf("the job went to %+v, want it on %s with epoch %d", moved, other(active.Node), active.Epoch+1)
	}
	renew(ctx, t, c, active.Node, moved.Epoch)
	return moved
}

// renew restarts a daemon with the programs of now, and waits until all nodes see it well; the job stays where it is.
func renew(ctx context.Context, t *testing.T, c *lab.Cluster, name string, epoch uint64) {
	t.Helper()
	must(t, c.Nodes[name].StopDaemon(ctx))
	must(t, c.Nodes[name].Start())
	eventuallyWithin(t, 2*time.Minute, name+" is back", func() bool {
		status, err := c.Status(ctx)
		if err != nil || !status.GetView().GetAuthoritative() {
			return false
		}
		for _, n := range status.GetNodes() {
			if !n.GetConnected() || n.GetTrouble() != "" {
				return false
			}
		}
		return len(status.GetNodes()) == 3
	})
	now, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	if now.Epoch != epoch {
		t.Fatalf("epoch %d after a restart of %s, which did not have the job: want %d still", now.Epoch, name, epoch)
	}
}
