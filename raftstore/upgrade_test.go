package raftstore

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// unpack puts the directories of three nodes in the members' places, as the version before there were lives has written them: seven
// commands, with a snapshot after five.
func (c *cluster) unpack(archive string) {
	c.t.Helper()
	file, err := os.Open(archive)
	if err != nil {
		c.t.Fatal(err)
	}
	defer file.Close()
	packed, err := gzip.NewReader(file)
	if err != nil {
		c.t.Fatal(err)
	}
	dirs := map[string]string{}
	for _, m := range c.members {
		dirs[m.cfg.name(m.cfg.Self)] = m.cfg.Dir
	}
	for r := tar.NewReader(packed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dirs[filepath.Dir(header.Name)], filepath.Base(header.Name)), text, 0o600)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// TestDirectoriesOfBeforeThereWereLives are those of the first life: nothing has to be done about them, and they can be recovered.
func TestDirectoriesOfBeforeThereWereLives(t *testing.T) {
	c := newCluster(t, nil)
	c.unpack(filepath.Join("testdata", "before-lives.tar.gz"))
	for _, m := range c.members {
		if r, err := Salvage(m.cfg); err != nil || r.Life != (Life{}) || r.Doubt != "" || r.SnapshotAt == 0 {
			t.Errorf("salvaged: %+v, %v", r, err)
		}
	}
	c.startAll()
	c.propose(c.leader(), "h")
	c.agree("a", "b", "c", "d", "e", "f", "g", "h")
	for _, m := range c.members {
		if status := m.store.Status(); status.Life != (Life{}) || status.Doubt != "" {
			t.Errorf("node %s: %+v", m.cfg.name(m.cfg.Self), status)
		}
	}
	c.stopAll()
	b := begun()
	c.found(b, c.members...)
	c.startAll()
	c.propose(c.leader(), "i")
	c.agree("before", "i")
}
