package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestMember replaces the witness and a scheduler host of a running cluster while its job writes. Nobody is restarted, and the job
// moves when it is asked to and not else.
func TestMember(t *testing.T) {
	l := up(t, "a", "b", "c", "t", "u", "d")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{
		Jobs: map[string]lab.Job{"scheduler": shell(writer)}, Later: []string{"c", "u"}, LaterWitness: "u",
		Detection: "wan", // a busy machine is no reason for a move
	})
	must(t, c.Start())
	at, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	awaitRow(ctx, t, conn, at)

	t.Run("the witness", func(t *testing.T) {
		must(t, c.Start("u"))
		mustCtl(ctx, t, c, "member", "replace", "t", "u", "--peer", c.Nodes["u"].Peer(), "--witness", "--yes", "--timeout", "2m")
		wantMembers(ctx, t, c, "a voter", "b voter", "u voter witness")
		gone(t, c.Nodes["t"])
		if now := mustBe(ctx, t, c, at.Node, at.Epoch-1); now != at {
			t.Errorf("the job has moved from %+v to %+v", at, now)
		}
	})
	t.Run("the holder", func(t *testing.T) {
		must(t, c.Start("c"))
		output, code, err := c.Ctl(ctx, "member", "replace", at.Node, "c", "--peer", c.Nodes["c"].Peer(), "--yes", "--timeout", "2m")
		must(t, err)
		if code != 3 || !strings.Contains(output, "switchover") {
			t.Errorf("replacing the holder: exit code %d, %s", code, output)
		}
		wantMembers(ctx, t, c, "a voter", "b voter", "u voter witness")
	})
	old := at.Node
	t.Run("a scheduler host", func(t *testing.T) {
		mustCtl(ctx, t, c, "switchover", "--yes", "--timeout", "2m")
		at = mustBe(ctx, t, c, other(old), at.Epoch)
		mustCtl(ctx, t, c, "member", "replace", old, "c", "--peer", c.Nodes["c"].Peer(), "--yes", "--timeout", "2m")
		wantMembers(ctx, t, c, at.Node+" voter", "c voter", "u voter witness")
		gone(t, c.Nodes[old])
		if now := mustBe(ctx, t, c, at.Node, at.Epoch-1); now != at {
			t.Errorf("the job has moved from %+v to %+v", at, now)
		}
	})
	t.Run("the new ones serve", func(t *testing.T) {
		mustCtl(ctx, t, c, "switchover", "--to", "c", "--yes", "--timeout", "2m")
		at = mustBe(ctx, t, c, "c", at.Epoch)
		awaitRow(ctx, t, conn, at)
		stays := other(old)
		must(t, c.Nodes[stays].KillDaemon()) // its configuration is that of before
		soon(ctx, t, "its end", c.Nodes[stays].Process().Ended)
		must(t, c.Start(stays))
		soon(ctx, t, "it can be granted the job again", func() bool {
			output, code, err := c.Ctl(ctx, "switchover", "--to", stays, "--yes", "--timeout", "2m")
			if code != 0 {
				t.Logf("not yet: %s", output)
			}
			return err == nil && code == 0
		})
		at = mustBe(ctx, t, c, stays, at.Epoch)
		awaitRow(ctx, t, conn, at)
	})
	t.Run("the old ones are refused", func(t *testing.T) { refused(ctx, t, c, "t", old) })
	neverBackwards(ctx, t, conn)
}

// neverBackwards wants no row of an older epoch after one of a newer.
func neverBackwards(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var backwards int
	must(t, conn.QueryRow(ctx, "SELECT count(*) FROM (SELECT epoch, lag(epoch) OVER (ORDER BY id) AS before FROM public.work) AS w WHERE epoch < before").Scan(&backwards))
	if backwards != 0 {
		t.Errorf("%d times a row of an older epoch follows one of a newer", backwards)
	}
}

// refused starts removed nodes on their old data, and tries to take the first one back.
func refused(ctx context.Context, t *testing.T, c *lab.Cluster, names ...string) {
	t.Helper()
	must(t, c.Start(names...))
	for _, name := range names {
		gone(t, c.Nodes[name])
	}
	output, code, err := c.Ctl(ctx, "member", "add", names[0], "--peer", c.Nodes[names[0]].Peer(), "--yes", "--timeout", "2m")
	must(t, err)
	if code != 3 || !strings.Contains(output, "another name") {
		t.Errorf("adding a removed node: exit code %d, %s", code, output)
	}
}

// gone waits for the end of a daemon that was removed, and wants it to have said so.
func gone(t *testing.T, n *lab.Node) {
	t.Helper()
	soon(t.Context(), t, "end of node "+n.Name, n.Process().Ended)
	var exit *exec.ExitError
	if err := n.Process().Err(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("node %s ended with %v, want exit code 7", n.Name, err)
	}
	if text := string(read(t, n.LogPath())); !strings.Contains(text, "was removed from the cluster") {
		t.Errorf("node %s does not say that it was removed: %s", n.Name, text)
	}
}

// soon waits up to two minutes: a node that leaves ends its jobs first, and the machine may be busy.
func soon(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within two minutes: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// wantMembers waits until every member of now knows these, and nobody else.
func wantMembers(ctx context.Context, t *testing.T, c *lab.Cluster, want ...string) {
	t.Helper()
	for _, line := range want {
		name, _, _ := strings.Cut(line, " ")
		soon(ctx, t, "node "+name+" knows the members "+strings.Join(want, ", "), func() bool {
			output, _, err := c.Ctl(ctx, "member", "list", "--endpoint", c.Nodes[name].Admin(), "-o", "json")
			var answer struct {
				Members []struct {
					Name, Role string
					Witness    bool
				}
			}
			if err != nil || json.Unmarshal([]byte(output), &answer) != nil {
				return false
			}
			var lines []string
			for _, m := range answer.Members {
				text := m.Name + " " + m.Role
				if m.Witness {
					text += " witness"
				}
				lines = append(lines, text)
			}
			return strings.Join(lines, ", ") == strings.Join(want, ", ")
		})
	}
}
