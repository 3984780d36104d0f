package node

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

var rewriteDirectories = flag.Bool("rewrite-directories", false, "write testdata/directories/*.json anew")

// TestDirectoriesOfReleases reads the logs of three daemons as each release has left them, of a cluster whose members had changed, and
// starts a store on each. What is in them is in the .json beside the archive; a later version may add to that and not change it. Rewrite with
// `go test ./node -run Directories -rewrite-directories`, and read the difference. A release adds its own: the folders raft of the
// nodes of TestMember (scripts/lab) when it ends.
func TestDirectoriesOfReleases(t *testing.T) {
	archives, err := filepath.Glob("testdata/directories/*.tar.gz")
	if err != nil || len(archives) == 0 {
		t.Fatalf("found %v, %v", archives, err)
	}
	for _, archive := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(archive), ".tar.gz"), func(t *testing.T) {
			dirs := unpacked(t, archive)
			for _, name := range []string{"b", "c", "u"} {
				cfg := storeOf(t, name, dirs)
				compare(t, strings.TrimSuffix(archive, ".tar.gz")+"."+name+".json", remainsOf(t, cfg))
				starts(t, cfg)
			}
		})
	}
}

// unpacked returns the folder in which each node's is, under its name.
func unpacked(t *testing.T, archive string) string {
	t.Helper()
	file, err := os.Open(archive)
	must(t, err)
	defer file.Close()
	packed, err := gzip.NewReader(file)
	must(t, err)
	dirs := t.TempDir()
	for r := tar.NewReader(packed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dirs
		}
		must(t, err)
		if header.Typeflag != tar.TypeReg {
			continue
		}
		path := filepath.Join(dirs, filepath.Base(filepath.Dir(header.Name)), filepath.Base(header.Name))
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		text, err := io.ReadAll(r)
		must(t, err)
		must(t, os.WriteFile(path, text, 0o600))
	}
}

// storeOf is the configuration of a store on a node's folder: as the node was started with, which the log has moved on from since.
func storeOf(t *testing.T, name, dirs string) raftstore.Config {
	t.Helper()
	self := member{ID: lease.NodeID(name), Peer: "127.0.0.1:0"}.peer()
	return raftstore.Config{
		Cluster: "lab1", Self: self.ID, Peers: []raftstore.Peer{self}, Join: name != "b", Dir: filepath.Join(dirs, name), Listen: "127.0.0.1:0",
		Logger: slog.New(slog.DiscardHandler),
	}
}

// remainsOf is what is in a folder, as far as a majority had agreed on it.
func remainsOf(t *testing.T, cfg raftstore.Config) any {
	t.Helper()
	remains, err := raftstore.Salvage(cfg)
	must(t, err)
	state, err := backup.Replay(remains.Snapshot, func(yield func(uint64, []byte) bool) {
		for _, c := range remains.Commands {
			if c.Index > remains.Commit || !yield(c.Index, c.Data) {
				return
			}
		}
	})
	must(t, err)
	if remains.Doubt != "" {
		t.Errorf("%s is in doubt: %s", cfg.Dir, remains.Doubt)
	}
	return struct {
		Members raftstore.Roster `json:"members"`
		State   lease.State      `json:"state"`
	}{remains.Members, state}
}

// compare wants what is in the file, or writes it.
func compare(t *testing.T, file string, got any) {
	t.Helper()
	text, err := json.MarshalIndent(got, "", "  ")
	must(t, err)
	text = append(text, '\n')
	if *rewriteDirectories {
		must(t, os.WriteFile(file, text, 0o644))
		return
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if !slices.Equal(text, want) {
		t.Errorf("%s: got %s", file, text)
	}
}

// inspector is the machine of a store, and its observer: it reads what it is given and keeps nothing but the members.
type inspector struct {
	t       *testing.T
	members chan raftstore.Roster
}

func (r inspector) Apply(_ uint64, command []byte) {
	if _, err := lease.DecodeCommand(command); err != nil {
		r.t.Error(err)
	}
}

func (r inspector) Snapshot() ([]byte, error) { return nil, errors.New("nobody asked for it") }

func (r inspector) Restore(snapshot []byte) error {
	_, err := lease.DecodeSnapshot(snapshot)
	return err
}

func (r inspector) Beat(uint64, []byte)              {}
func (r inspector) PeerLost(uint64, bool)            {}
func (r inspector) Leadership(raftstore.Leadership)  {}
func (r inspector) Removed(why string)               { r.t.Error(why) }
func (r inspector) Members(members raftstore.Roster) { r.members <- members }

// starts runs a store, alone, until it knows from its log who the members are.
func starts(t *testing.T, cfg raftstore.Config) {
	t.Helper()
	r := inspector{t, make(chan raftstore.Roster, 100)}
	cfg.Observer = r
	store, err := raftstore.New(cfg, r)
	must(t, err)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	for known := false; !known; {
		select {
		case members := <-r.members:
			known = len(members.Voters()) == 3 && len(members.Removed) == 2
		case <-ctx.Done():
			t.Error("it does not know the members within a minute")
			known = true
		}
	}
	stop()
	must(t, <-ended)
}
