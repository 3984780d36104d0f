package lab_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestHooks: an operator's commands are run around what happens on real nodes: in order, after a daemon's death too, and without
// any that hangs being in a takeover's way. One may keep the job off its host.
func TestHooks(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	note := []string{"/bin/sh", "-c", `while test -e "$DIR/hang-$DUOFLOW_HOOK"; do sleep 0.05; done; ` +
		`echo "$DUOFLOW_NODE $DUOFLOW_EPOCH $DUOFLOW_HOOK" >> "$DIR/seen"; ! test -e "$DIR/veto-$DUOFLOW_NODE-$DUOFLOW_HOOK"`}
	job := shell(writer)
	job.Env = map[string]string{"DIR": dir}
	job.Hooks = map[string]any{"timeout": "1m"}
	for _, name := range []string{"pre_start", "post_start", "pre_stop", "post_stop", "on_fence"} {
		job.Hooks[name] = note
	}
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": job}})
	must(t, c.Start())
	at, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	awaitRow(ctx, t, conn, at)
	defer func() {
		if t.Failed() {
			text, _ := os.ReadFile(seen)
			t.Logf("seen:\n%s", text)
		}
	}()
	wants := func(what string, lines ...string) {
		t.Helper()
		eventually(t, what, func() bool { return slices.Equal(of(seen, lines[0]), lines) })
	}
	first := at.Node
	wants("the first start is told", first+" 1 on_fence", first+" 1 pre_start", first+" 1 post_start")

	touch := func(name string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		return path
	}
	hang := touch("hang-on_fence")
	mustCtl(ctx, t, c, "switchover", "--yes")
	at = mustBe(ctx, t, c, other(first), 1)
	awaitRow(ctx, t, conn, at)
	wants("the stop is told", first+" 1 on_fence", first+" 1 pre_start", first+" 1 post_start", first+" 1 pre_stop", first+" 1 post_stop")
	if got := of(seen, at.Node+" 2 "); !slices.Equal(got, []string{at.Node + " 2 pre_start"}) {
		t.Errorf("beside a hook that hangs, %q were run", got)
	}

	// The daemon dies with two still to be told. The next one tells them.
	must(t, c.Nodes[at.Node].Kill(ctx))
	must(t, os.Remove(hang))
	veto := touch("veto-" + first + "-pre_start")
	must(t, c.Start(at.Node))
	wants("what the dead daemon has left is told", at.Node+" 2 pre_start", at.Node+" 2 on_fence", at.Node+" 2 post_start")

	// The first host's command says no, again and again, so that the job comes to be on the other.
	eventually(t, "it runs where no command forbids it", func() bool {
		now, err := c.AwaitActive(ctx, "scheduler", 2)
		return err == nil && now.Node == at.Node
	})
	must(t, os.Remove(veto))
}

// of lists the lines of a file that are about the same node and epoch as one.
func of(path, like string) []string {
	text, _ := os.ReadFile(path) // absent: nothing yet
	about := strings.Join(strings.Fields(like)[:2], " ") + " "
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, about) {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}
