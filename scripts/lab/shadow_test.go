package lab_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestShadow: a cluster that only decides makes its grants and says what it would do, and neither the database nor any process
// knows of it.
func TestShadow(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": shell(writer)}})
	for _, n := range c.Nodes {
		must(t, n.WriteConfig(func(config map[string]any) { config["shadow"] = true }))
	}
	must(t, c.Start())
	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	must(t, c.Nodes[first.Node].Kill(ctx))
	second := mustBe(ctx, t, c, other(first.Node), first.Epoch)
	must(t, c.Start(first.Node))
	output := mustCtl(ctx, t, c, "status")
	if !strings.Contains(output, "UNSAFE: shadow: it is decided and said what would be done, and nothing is done") {
		t.Errorf("status does not say that it is a shadow:\n%s", output)
	}
	if history := mustCtl(ctx, t, c, "history"); !strings.Contains(history, "redial refused") {
		t.Errorf("the history lacks the failover:\n%s", history)
	}
	for what, query := range map[string]string{
		"rows of the job": "SELECT count(*) FROM public.work",
		"epoch roles":     "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'df\\_%\\_e%'",
	} {
		var n int
		must(t, conn.QueryRow(ctx, query).Scan(&n))
		if n != 0 {
			t.Errorf("%s: %d, want none of a shadow's epoch %d", what, n, second.Epoch)
		}
	}
}
