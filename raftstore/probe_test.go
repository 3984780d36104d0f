package raftstore

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "raft")
	p := newProbe(dir, slog.New(slog.DiscardHandler))
	p.look()
	if got := p.unwritable(); !strings.Contains(got, "takes no writes: open "+dir) {
		t.Errorf("without a directory: %q", got)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.path, []byte("of a process that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.look()
	if got := p.unwritable(); got != "" {
		t.Errorf("a sound directory: %q", got)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
	p.since = time.Now().Add(-probeSlow)
	if got := p.unwritable(); !strings.Contains(got, "does not answer") {
		t.Errorf("a look that does not end: %q", got)
	}
}

// TestUnwritableIsTold: by the store, before it speaks to anyone.
func TestUnwritableIsTold(t *testing.T) {
	c := newCluster(t, nil)
	m := c.members[0]
	inTheWay := filepath.Join(m.cfg.Dir, probeFile)
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	c.startAll()
	c.leader()
	if got := m.store.Unwritable(); !strings.Contains(got, inTheWay) {
		t.Errorf("unwritable: %q", got)
	}
	if got := c.members[1].store.Unwritable(); got != "" {
		t.Errorf("the other: %q", got)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	c.until("the end of it", func() bool { return m.store.Unwritable() == "" })
}
