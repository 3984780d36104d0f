package raftstore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// runOnce runs a member until it ends by itself and returns the error.
func (c *cluster) runOnce(m *member) error {
	c.t.Helper()
	store, err := New(m.cfg, &list{})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = store.Run(ctx)
	if ctx.Err() != nil {
		c.t.Fatalf("the store ran on: %v", err)
	}
	return err
}

// fillAndStop starts the cluster, proposes some commands and stops it.
func (c *cluster) fillAndStop(commands ...string) {
	c.t.Helper()
	c.startAll()
	for _, command := range commands {
		c.propose(c.leader(), command)
	}
	c.agree(commands...)
	c.stopAll()
}

func TestForeignDirIsRefused(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(*Config)
	}{
		{"cluster", `its cluster is "test", this node's is "other"`, func(cfg *Config) { cfg.Cluster = "other" }},
		{"node", `its node is "a (`, func(cfg *Config) { cfg.Self = id("b") }},
		{"voters", "its voters are", func(cfg *Config) { cfg.Peers = cfg.Peers[:2] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, nil)
			c.fillAndStop("one")
			test.change(&c.members[0].cfg)
			err := c.runOnce(c.members[0])
			if !errors.Is(err, ErrForeignDir) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ErrForeignDir with %q", err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), "move") {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

// TestRefusedDirHoldsUpNobody: the loop never began, and whoever asks gets to know, however many they are.
func TestRefusedDirHoldsUpNobody(t *testing.T) {
	c := newCluster(t, nil)
	c.fillAndStop("one")
	m := c.members[0]
	m.cfg.Cluster = "other"
	store, err := New(m.cfg, &list{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Run(t.Context()); !errors.Is(err, ErrForeignDir) {
		t.Fatalf("got %v, want ErrForeignDir", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range controlQueue + 10 {
			if err := store.Read(t.Context()); !errors.Is(err, ErrStopped) {
				t.Errorf("a read: %v, want ErrStopped", err)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("reads wait for a loop that never began")
	}
}

func TestFlippedByteIsNamed(t *testing.T) {
	c := newCluster(t, nil)
	c.fillAndStop("a command that is easy to find")
	path := filepath.Join(c.members[0].cfg.Dir, diskFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("easy to find")) {
		t.Fatal("the command is not in the file")
	}
	text = bytes.ReplaceAll(text, []byte("easy to find"), []byte("easy_to find"))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	err = c.runOnce(c.members[0])
	if !errors.Is(err, errRecord) || !strings.Contains(err.Error(), "log/3: crc32c") {
		t.Errorf("got %v, want a damaged record log/3", err)
	}
}

// TestFlippedStateIsNamed flips every byte of every record that is not in the log, one at a time.
func TestFlippedStateIsNamed(t *testing.T) {
	dir, who := t.TempDir(), owner{cluster: "test", node: "a", voters: []uint64{1, 2, 3}}
	d, err := openDisk(dir, who, &window{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := openFile(filepath.Join(dir, diskFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	flips := 0
	for _, place := range [][2][]byte{
		{bucketMeta, keyFormat}, {bucketMeta, keyCluster}, {bucketMeta, keyNode},
		{bucketState, keyHard}, {bucketState, keySnapshot},
	} {
		var sound []byte
		write := func(record []byte) {
			err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(place[0]).Put(place[1], record) })
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := db.View(func(tx *bbolt.Tx) error {
			sound = bytes.Clone(tx.Bucket(place[0]).Get(place[1]))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for i := range sound {
			record := bytes.Clone(sound)
			record[i] ^= 0x10
			write(record)
			want := string(place[0]) + "/" + string(place[1])
			if _, _, err := load(db, who); !errors.Is(err, errRecord) || !strings.Contains(err.Error(), want) {
				t.Errorf("byte %d of %s: got %v", i, want, err)
			}
			flips++
		}
		write(sound)
		if _, _, err := load(db, who); err != nil {
			t.Fatalf("the restored file is refused: %v", err)
		}
	}
	if flips < 50 {
		t.Errorf("only %d bytes were flipped", flips)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	c := newCluster(t, nil)
	c.start(c.members[0])
	c.until("address", func() bool { return c.members[0].store.Addr() != "" })
	err := c.runOnce(c.members[0])
	if err == nil || !strings.Contains(err.Error(), "another process holds it") {
		t.Errorf("got %v", err)
	}
}

// TestStorageErrorEndsRun closes the file under a running store.
func TestStorageErrorEndsRun(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	victim := c.follower(c.leader())
	fail := make(chan struct{})
	victim.store.post(func(s *Store) { close(fail); s.breakDisk(t) })
	<-fail
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = c.members[0].store.Propose(ctx, []byte("x"))
	}()
	err := <-victim.ended
	victim.stop = nil
	if err == nil || !strings.Contains(err.Error(), "write "+victim.cfg.Dir) || !strings.Contains(err.Error(), adviceElse) {
		t.Errorf("Run ended with %v, want the failed write", err)
	}
	if err := victim.store.Propose(context.Background(), []byte("y")); !errors.Is(err, ErrStopped) {
		t.Errorf("Propose after the end: got %v", err)
	}
	c.propose(c.leader(), "without it")
}

// TestSnapshotErrorEndsRun: a state machine that cannot be encoded is a failure of this node.
func TestSnapshotErrorEndsRun(t *testing.T) {
	c := newCluster(t, func(cfg *Config) { cfg.SnapshotEvery, cfg.KeepEntries = 5, 2 })
	c.startAll()
	leader := c.leader()
	victim, sick := c.follower(leader), errors.New("sick")
	victim.machine.set(func(l *list) { l.sick = sick })
	for range 6 {
		c.propose(leader, "x")
	}
	err := <-victim.ended
	victim.stop = nil
	if !errors.Is(err, sick) {
		t.Errorf("Run ended with %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte("log"), indexKey(7), []byte("payload"), uint16(3))
	f.Add([]byte("state"), []byte("hard"), []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, bucket, key, payload []byte, at uint16) {
		record := encodeRecord(bucket, key, payload)
		got, err := decodeRecord(bucket, key, record)
		if err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("round trip: %q %v", got, err)
		}
		record[int(at)%len(record)] ^= 1 << (at % 8)
		if _, err := decodeRecord(bucket, key, record); !errors.Is(err, errRecord) {
			t.Fatalf("flipped bit was not seen: %v", err)
		}
		if _, err := decodeRecord(bucket, key, payload); err != nil && !errors.Is(err, errRecord) {
			t.Fatalf("raw bytes: %v", err)
		}
	})
}
