package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// said is one run of the program: what it printed, and with what it ended.
type said struct {
	code int
	text string // what a program reads, and the complaint
}

// duoflowd runs the program as an operator does.
func duoflowd(t *testing.T, args ...string) said {
	t.Helper()
	var out bytes.Buffer
	c := command()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := c.ExecuteContext(ctx)
	if err == nil {
		return said{0, out.String()}
	}
	return said{exitCode(err), out.String() + err.Error()}
}

// want checks the exit code, and that all of it was said.
func (s said) want(t *testing.T, code int, words ...string) {
	t.Helper()
	if s.code != code {
		t.Errorf("exit code %d, want %d\n%s", s.code, code, s.text)
	}
	for _, w := range words {
		if !strings.Contains(s.text, w) {
			t.Errorf("it does not say %q:\n%s", w, s.text)
		}
	}
}

// closedPorts are all different: they were all open at once.
func closedPorts(t *testing.T, count int) (ports []string) {
	t.Helper()
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().String())
	}
	return ports
}

// taken is a backup of a cluster whose scheduler is at epoch 12, at index 120 of term 7.
func taken(t *testing.T) string {
	t.Helper()
	var s lease.State
	for i, c := range []lease.Command{
		{Configure: &lease.Configure{Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}, Jobs: []lease.JobName{"etl", "scheduler"}}},
		{Grant: &lease.Grant{Job: "scheduler", Next: 12, Node: "a", Token: "0123456789abcdef0123456789abcdef", Cause: lease.CauseFirst, At: 1_790_000_000_000}},
		{Hold: &lease.Hold{Job: "etl", Pause: &lease.Pause{Level: lease.PauseMoves}, Cause: lease.CauseOperator}},
	} {
		s.ApplyAt(uint64(i+2), c)
	}
	file := filepath.Join(t.TempDir(), "prod.backup")
	if err := backup.Write(file, backup.Picture{Cluster: "prod", Life: "0", Node: "a", Version: "v1", Index: 120, Term: 7, State: s.Snapshot()}, false); err != nil {
		t.Fatal(err)
	}
	return file
}

// site is the configurations of three nodes, each with a folder of its own.
type site struct {
	t     *testing.T
	dir   string
	ports map[string]string   // for peers
	rest  map[string][]string // for gossip, operators and HTTP
	nodes string
}

func hosts(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), ports: map[string]string{}, rest: map[string][]string{}}
	var nodes []string
	ports := closedPorts(t, 12)
	for i, name := range []string{"a", "b", "t"} {
		s.ports[name], s.rest[name] = ports[4*i], ports[4*i+1:4*i+4]
		nodes = append(nodes, fmt.Sprintf("%s: {peer: %q, gossip: %q, witness: %t}", name, s.ports[name], s.rest[name][0], name == "t"))
	}
	if err := os.WriteFile(filepath.Join(s.dir, "gossip.key"), []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.nodes = strings.Join(nodes, ", ")
	return s
}

// config writes the configuration of a node.
func (s *site) config(name string) string {
	s.t.Helper()
	fence := ""
	if name != "t" {
		fence = fmt.Sprintf(", fence: {dsn: \"postgres://fencer_%s@127.0.0.1/airflow\", group: airflow}", name)
	}
	text := fmt.Sprintf("cluster: prod\nnode: %s\nwitness: %t\ndata_dir: %s\ninsecure_loopback: true\ngossip: {keyring: gossip.key}\n"+
		"listen: {peer: %q, gossip: %q, admin: %q, http: %q}\nnodes: {%s}\njobs: {scheduler: {kind: command, command: [/bin/true]%s}}\n",
		name, name == "t", s.data(name), s.ports[name], s.rest[name][0], s.rest[name][1], s.rest[name][2], s.nodes, fence)
	path := filepath.Join(s.dir, name+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *site) data(name string) string { return filepath.Join(s.dir, "data-"+name) }

func (s *site) log(name string) raftstore.Config {
	s.t.Helper()
	cfg, err := node.LoadConfig(s.config(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg.LogStore()
}

// restore runs it on a node, and tells what it said.
func (s *site) restore(name, file string, more ...string) restoreAnswer {
	s.t.Helper()
	got := duoflowd(s.t, append([]string{"restore", file, "--config", s.config(name), "-o", "json"}, more...)...)
	got.want(s.t, 0)
	var answer restoreAnswer
	if err := json.Unmarshal([]byte(got.text), &answer); err != nil {
		s.t.Fatal(err)
	}
	return answer
}

// begun reads what a node would begin with.
func (s *site) begun(name string) (raftstore.Remains, lease.State) {
	s.t.Helper()
	remains, err := raftstore.Salvage(s.log(name))
	if err != nil {
		s.t.Fatal(err)
	}
	state, err := backup.Replay(remains.Snapshot, func(func(uint64, []byte) bool) {})
	if err != nil {
		s.t.Fatal(err)
	}
	return remains, state
}

// TestRestore makes three nodes from one file, with the command that the first run prints.
func TestRestore(t *testing.T) {
	file, s := taken(t), hosts(t)
	dry := s.restore("a", file, "--dry-run")
	if _, err := os.Stat(s.data("a")); err == nil || dry.Done {
		t.Errorf("a dry run has made a directory: %+v", dry)
	}
	first := s.restore("a", file)
	if !first.Done || !strings.Contains(first.Others, "--life "+first.Life) || first.Jobs[1].EpochThen != 12 || first.Jobs[1].EpochLeftOut != 12+backup.DefaultSkip ||
		first.Jobs[0].Paused != "moves" || first.Jobs[0].EpochLeftOut != 0 {
		t.Errorf("%+v", first)
	}
	for _, name := range []string{"b", "t"} {
		s.restore(name, file, "--life", first.Life)
	}
	want, state := s.begun("a")
	if job, _ := state.Job("scheduler"); job.Phase != lease.Released || want.Life.String() != first.Life || want.SnapshotAt != 121 || want.Term != 8 || want.Doubt != "" {
		t.Errorf("%+v, %+v", want, job)
	}
	for _, name := range []string{"b", "t"} {
		if got, _ := s.begun(name); got.Life != want.Life || !slices.Equal(got.Snapshot, want.Snapshot) || got.SnapshotAt != want.SnapshotAt || got.Term != want.Term {
			t.Errorf("node %s begins otherwise: %+v", name, got)
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	file, s := taken(t), hosts(t)
	first := s.restore("a", file)
	with := func(args ...string) said {
		return duoflowd(t, append([]string{"restore", file, "--config", s.config("b")}, args...)...)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--config", s.config("a")}, exitUnsafe, "there is a data directory already"},
		{[]string{"--life", first.Life, "--skip", "7"}, exitUnsafe, "another --skip"},
		{[]string{"--life", first.Life, "--stopped"}, exitUnsafe, "another --skip or --stopped"},
		{[]string{"--life", "0"}, exitUsage, "no number above 0"},
		{[]string{"--life", "1-xyz"}, exitUsage, "--life"},
		{[]string{"-o", "yaml"}, exitUsage, "want text or json"},
		{[]string{"--skip", "18446744073709551615"}, exitFailed, "beyond"},
		{[]string{"--config", "/nonexistent"}, exitUsage, "/nonexistent"},
	} {
		with(c.args...).want(t, c.code, c.want)
	}
	s.nodes = strings.Replace(s.nodes, "t: {", "u: {", 1)
	with("--life", first.Life).want(t, exitUnsafe, "another list of nodes")
	s.nodes = strings.Replace(s.nodes, "u: {", "t: {", 1)
	if _, err := os.Stat(s.data("b")); err == nil {
		t.Error("a refused restore has made a directory")
	}
	listener, err := net.Listen("tcp", s.ports["b"])
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	with("--life", first.Life).want(t, exitUnsafe, "a daemon of this node runs", "stop duoflowd")
}

func TestADamagedBackupIsNotRestored(t *testing.T) {
	file, s := taken(t), hosts(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	duoflowd(t, "restore", file, "--config", s.config("a")).want(t, exitFailed, "damaged", "use another backup")
	duoflowd(t, "restore", file+"x", "--config", s.config("a")).want(t, exitUsage, "no such file")
	if _, err := os.Stat(s.data("a")); err == nil {
		t.Error("it has made a directory")
	}
}

// nothing is a state machine that keeps what it is told for the log alone.
type nothing struct{}

func (nothing) Apply(uint64, []byte)      {}
func (nothing) Snapshot() ([]byte, error) { return []byte("x"), nil }
func (nothing) Restore([]byte) error      { return nil }

// lived has three stores of the site agree on some commands, and returns with them stopped.
func (s *site) lived(commands ...lease.Command) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stores, ends := map[string]*raftstore.Store{}, make(chan error, 3)
	for name := range s.ports {
		cfg := s.log(name)
		cfg.Driven = false
		store, err := raftstore.New(cfg, nothing{})
		if err != nil {
			s.t.Fatal(err)
		}
		stores[name] = store
		go func() { ends <- store.Run(ctx) }()
	}
	for _, c := range commands {
		s.until(func() bool {
			limited, done := context.WithTimeout(ctx, 5*time.Second)
			defer done()
			return stores["a"].Propose(limited, c.Encode()) == nil
		})
	}
	s.until(func() bool {
		last := stores["a"].Status().Applied
		for _, store := range stores {
			if status := store.Status(); status.Applied != last || status.Doubt != "" {
				return false
			}
		}
		return true
	})
	cancel()
	for range stores {
		if err := <-ends; err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) until(done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("the stores agree on nothing")
		}
	}
}

// TestRecover makes another life of what one node of three has, and the other two from the file.
func TestRecover(t *testing.T) {
	s := hosts(t)
	s.lived(
		lease.Command{Configure: &lease.Configure{Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}, Jobs: []lease.JobName{"scheduler"}}},
		lease.Command{Grant: &lease.Grant{Job: "scheduler", Next: 5, Node: "b", Token: "0123456789abcdef0123456789abcdef", Cause: lease.CauseFirst, At: 1_790_000_000_000}})
	out := filepath.Join(t.TempDir(), "recovered.backup")
	args := []string{"recover", "--config", s.config("t")}
	duoflowd(t, append(args, "--dry-run")...).want(t, 0, "is lost", "scheduler", "grant, 2026-", "| b ")
	duoflowd(t, args...).want(t, exitUsage, "--out")
	duoflowd(t, append(args, "--out", s.config("a"))...).want(t, exitUnsafe, "name another file")
	got := duoflowd(t, append(args, "--out", out, "-o", "json")...)
	got.want(t, 0)
	var answer recoverAnswer
	if err := json.Unmarshal([]byte(got.text), &answer); err != nil || !answer.Done || answer.LogEnds == 0 || !strings.Contains(answer.Others, out) {
		t.Fatalf("%+v, %v", answer, err)
	}
	if _, err := os.Stat(filepath.Join(answer.Kept, "raft.db")); err != nil {
		t.Errorf("the directory of before is not kept: %v", err)
	}
	duoflowd(t, "restore", out, "--config", s.config("a")).want(t, exitUnsafe, "there is a data directory already")
	for _, name := range []string{"a", "b"} {
		if err := os.RemoveAll(s.data(name)); err != nil {
			t.Fatal(err)
		}
		duoflowd(t, "restore", out, "--config", s.config(name), "--skip", "9").want(t, exitUsage, "decided already")
		s.restore(name, out)
	}
	want, state := s.begun("t")
	job, _ := state.Job("scheduler")
	if job.Epoch != 6 || job.Phase != lease.Released || want.Life.String() != answer.Life || want.SnapshotAt <= answer.LogEnds {
		t.Errorf("%+v, %+v", want, job)
	}
	for _, name := range []string{"a", "b"} {
		if got, _ := s.begun(name); got.Life != want.Life || !slices.Equal(got.Snapshot, want.Snapshot) || got.SnapshotAt != want.SnapshotAt {
			t.Errorf("node %s begins otherwise: %+v", name, got)
		}
	}
	s.lived() // and they elect one of themselves
}

// TestRecoverAfterAChange has a log that knows of a node that no configuration names: it is asked whether it is alive, and the life begins
// without it.
func TestRecoverAfterAChange(t *testing.T) {
	s := hosts(t)
	life := raftstore.Life{}.Next()
	there, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	cfg := s.log("a")
	cfg.Peers = append(cfg.Peers, raftstore.Peer{ID: node.RaftID("d"), Name: "d", Addr: there.Addr().String()})
	_, state, err := backup.Read(taken(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raftstore.Found(cfg, raftstore.Beginning{Life: life, Index: 121, Term: 8, State: state.Snapshot()}, false); err != nil {
		t.Fatal(err)
	}
	args := []string{"recover", "--config", s.config("a"), "--out", filepath.Join(t.TempDir(), "out")}
	duoflowd(t, args...).want(t, exitUnsafe, "other nodes answer: d at "+there.Addr().String())
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	duoflowd(t, append(args, "--dry-run")...).want(t, 0, "the nodes were a, b, d, t; life 2-", "those of the configuration: a, b, t")
	got := duoflowd(t, append(args, "-o", "json")...)
	got.want(t, 0)
	var answer recoverAnswer
	if err := json.Unmarshal([]byte(got.text), &answer); err != nil || !slices.Equal(answer.MembersBefore, []string{"a", "b", "d", "t"}) || !slices.Equal(answer.Members, []string{"a", "b", "t"}) {
		t.Errorf("%+v, %v", answer, err)
	}
	if remains, _ := s.begun("a"); !slices.Equal(namesIn(remains.Members), []string{"a", "b", "t"}) {
		t.Errorf("the life begins with %v", remains.Members)
	}
}

// TestRecoverOfWhoWaits: a node that nobody has added has nothing of the cluster's.
func TestRecoverOfWhoWaits(t *testing.T) {
	s := hosts(t)
	cfg := s.log("a")
	cfg.Driven, cfg.Join = false, true
	store, err := raftstore.New(cfg, nothing{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- store.Run(ctx) }()
	s.until(func() bool { return store.Addr() != "" })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	duoflowd(t, "recover", "--config", s.config("a"), "--dry-run").want(t, exitUnsafe, "never added", "restore a backup")
}

func TestRecoverRefuses(t *testing.T) {
	s := hosts(t)
	args := []string{"recover", "--config", s.config("a"), "--out", filepath.Join(t.TempDir(), "out")}
	duoflowd(t, args...).want(t, exitFailed, "nothing to recover")
	s.lived(lease.Command{Configure: &lease.Configure{Nodes: []lease.Node{{ID: "a"}}, Jobs: []lease.JobName{"scheduler"}}})

	cfg := s.log("b")
	cfg.Driven = false
	alive, err := raftstore.New(cfg, nothing{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- alive.Run(ctx) }()
	s.until(func() bool { return alive.Addr() != "" })
	duoflowd(t, args...).want(t, exitUnsafe, "other nodes answer: b at ")
	duoflowd(t, "recover", "--config", s.config("b"), "--dry-run").want(t, exitUnsafe, "a process holds the data directory", "stop duoflowd")
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	if err := os.Remove(filepath.Join(s.log("a").Dir, "raft.vote")); err != nil {
		t.Fatal(err)
	}
	duoflowd(t, args...).want(t, exitUnsafe, "may have forgotten", "restore a backup")
	if err := os.WriteFile(filepath.Join(s.log("t").Dir, "raft.db"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	duoflowd(t, "recover", "--config", s.config("t"), "--dry-run").want(t, exitUnsafe, "restore a backup")
}

// TestRestoreIntoNothingIsTheDaemonUsers: root makes what the daemon's user has to write, the data directory itself included.
func TestRestoreIntoNothingIsTheDaemonUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can give files away")
		return
	}
	file, s := taken(t), hosts(t)
	const user = 65534
	if err := os.Chown(s.dir, user, user); err != nil {
		t.Fatal(err)
	}
	s.restore("a", file)
	err := filepath.WalkDir(s.data("a"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != user {
			t.Errorf("%s is root's", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
