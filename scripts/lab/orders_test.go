package lab_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestOrders goes through the levels of a pause, a plan, its end and a restart, with three real nodes.
func TestOrders(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, conn := writers(ctx, t, l)
	at, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	awaitRow(ctx, t, conn, at)

	t.Run("moves", func(t *testing.T) {
		mustCtl(ctx, t, c, "pause", "--reason", "trial", "--yes")
		must(t, c.Nodes[at.Node].Kill(ctx))
		eventually(t, "the holder is suspected, and the job not moved", func() bool {
			job := jobOf(ctx, t, c)
			return job.SuspectReason != "" && strings.HasPrefix(job.WaitingReason, "paused (moves)") && job.Holder == at.Node
		})
		must(t, c.Start(at.Node))
		at = mustBe(ctx, t, c, at.Node, at.Epoch)
		mustCtl(ctx, t, c, "switchover", "--yes") // what an operator asks for is done
		at = mustBe(ctx, t, c, other(at.Node), at.Epoch)
	})
	t.Run("stopped", func(t *testing.T) {
		output := mustCtl(ctx, t, c, "pause", "--level", "stopped", "--yes")
		if !strings.Contains(output, "nobody runs it") {
			t.Errorf("%s", output)
		}
		var before, after int
		count := "SELECT count(*) FROM public.work"
		must(t, conn.QueryRow(ctx, count).Scan(&before))
		time.Sleep(time.Second)
		must(t, conn.QueryRow(ctx, count).Scan(&after))
		if before != after {
			t.Errorf("%d rows were written by a job that nobody runs", after-before)
		}
		output, code, err := c.Ctl(ctx, "switchover", "--yes")
		must(t, err)
		if code != 3 || !strings.Contains(output, "paused: stopped") {
			t.Errorf("switchover of what is stopped: exit code %d, %s", code, output)
		}
		mustCtl(ctx, t, c, "resume", "--yes")
		at, err = c.AwaitActive(ctx, "scheduler", at.Epoch)
		must(t, err)
	})
	t.Run("expires", func(t *testing.T) {
		mustCtl(ctx, t, c, "pause", "--level", "stopped", "--for", "2s", "--yes")
		at, err = c.AwaitActive(ctx, "scheduler", at.Epoch)
		must(t, err)
		if job := jobOf(ctx, t, c); job.Pause != nil {
			t.Errorf("still paused: %+v", job.Pause)
		}
		if history := mustCtl(ctx, t, c, "history", "-o", "json"); !strings.Contains(history, `"expired"`) {
			t.Errorf("the history does not say that it has expired: %s", history)
		}
	})
	t.Run("plan", func(t *testing.T) {
		mustCtl(ctx, t, c, "switchover", "--in", "1h", "--yes")
		if job := jobOf(ctx, t, c); job.Planned == nil {
			t.Error("no plan is shown")
		}
		mustCtl(ctx, t, c, "cancel", "--yes")
		mustCtl(ctx, t, c, "switchover", "--in", "1s", "--yes")
		at = mustBe(ctx, t, c, other(at.Node), at.Epoch)
	})
	t.Run("restart", func(t *testing.T) {
		mustCtl(ctx, t, c, "restart", "--yes")
		at = mustBe(ctx, t, c, at.Node, at.Epoch)
		awaitRow(ctx, t, conn, at)
	})
}

// mustBe awaits an epoch after the given one, which has to be on that node.
func mustBe(ctx context.Context, t *testing.T, c *lab.Cluster, node string, after uint64) lab.Active {
	t.Helper()
	at, err := c.AwaitActive(ctx, "scheduler", after)
	must(t, err)
	if at.Node != node {
		t.Fatalf("%+v is active, want it on %s", at, node)
	}
	return at
}

type jobNow struct {
	Holder        string          `json:"holder"`
	SuspectReason string          `json:"suspect_reason"`
	WaitingReason string          `json:"waiting_reason"`
	Pause         json.RawMessage `json:"pause"`
	Planned       json.RawMessage `json:"planned"`
}

// jobOf asks the raft leader, who alone suspects anybody.
func jobOf(ctx context.Context, t *testing.T, c *lab.Cluster) jobNow {
	t.Helper()
	var job jobNow
	for name := range c.Nodes {
		output, code, err := c.Ctl(ctx, "status", "--endpoint", c.Nodes[name].Admin(), "-o", "json")
		var answer struct {
			Node, Leader string
			Jobs         []jobNow
		}
		if err != nil || code != 0 || json.Unmarshal([]byte(output), &answer) != nil || answer.Node != answer.Leader {
			continue
		}
		job = answer.Jobs[0]
	}
	if string(job.Pause) == "null" {
		job.Pause = nil
	}
	if string(job.Planned) == "null" {
		job.Planned = nil
	}
	return job
}
