package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// taken is a backup of the fake cluster.
func taken(t *testing.T) string {
	t.Helper()
	dir := makeCertificates(t)
	file := filepath.Join(t.TempDir(), "prod.backup")
	operator(dir, serve(t, newFakeCluster(), dir)).run(t, "backup", file).want(t, exitOK)
	return file
}

func TestBackup(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	folder := t.TempDir()
	file := filepath.Join(folder, "prod.backup")
	got := ctl.run(t, "backup", file)
	got.want(t, exitOK)
	golden(t, "backup.table", strings.ReplaceAll(got.out, folder, "FOLDER"))
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{"table", "json", "yaml"} {
		got := console{}.run(t, "backup", "show", file, "-o", output) // asks no node
		got.want(t, exitOK)
		golden(t, "backup-show."+output, strings.ReplaceAll(got.out, folder, "FOLDER"))
	}
	console{}.run(t, "backup", "check", file).want(t, exitOK)
	ctl.run(t, "backup", file).want(t, exitUnsafe, "exists", "--force")
	ctl.run(t, "backup", file, "--force").want(t, exitOK)
	if after, err := os.ReadFile(file); err != nil || !slices.Equal(before, after) {
		t.Errorf("the same picture is another file: %v", err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBackupWithoutQuorum(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.loseQuorum()
	ctl := operator(dir, serve(t, cluster, dir))
	file := filepath.Join(t.TempDir(), "prod.backup")
	ctl.run(t, "backup", file).want(t, exitNoQuorum, "no majority")
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was written")
	}
	ctl.run(t, "backup", file, "--local").want(t, exitStale, "no quorum")
	if got := (console{}).run(t, "backup", "show", file); !strings.Contains(got.out, "LOCAL") {
		t.Errorf("it does not say that it is local:\n%s", got.out)
	}
}

func TestADamagedBackupIsRefused(t *testing.T) {
	file := taken(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	config := hosts(t).config("a")
	for _, args := range [][]string{{"backup", "show", file}, {"backup", "check", file}, {"restore", file, "--node-config", config, "--yes"}} {
		console{}.run(t, args...).want(t, exitFailed, "damaged")
	}
	console{}.run(t, "backup", "check", file+"x").want(t, exitUsage, "no such file")
}

// site is the configurations of three nodes, each with a folder of its own.
type site struct {
	t             *testing.T
	dir           string
	ports, gossip map[string]string
	nodes         string
}

func hosts(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), ports: map[string]string{}, gossip: map[string]string{}}
	var nodes []string
	for _, name := range []string{"a", "b", "t"} {
		s.ports[name], s.gossip[name] = closedPort(t), closedPort(t)
		nodes = append(nodes, fmt.Sprintf("%s: {peer: %q, gossip: %q, witness: %t}", name, s.ports[name], s.gossip[name], name == "t"))
	}
	if err := os.WriteFile(filepath.Join(s.dir, "gossip.key"), []byte(newGossipSecret()+"\n"), 0o600); err != nil {
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
		name, name == "t", s.data(name), s.ports[name], s.gossip[name], closedPort(s.t), closedPort(s.t), s.nodes, fence)
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

// restored is what restore says.
type restored struct {
	Life, Others string
	Done         bool
	Jobs         []struct {
		Name         string
		EpochThen    uint64 `json:"epoch_then"`
		EpochLeftOut uint64 `json:"epoch_left_out"`
		Paused       string
	}
}

func (s *site) restore(name, file string, more ...string) restored {
	s.t.Helper()
	got := console{}.run(s.t, append([]string{"restore", file, "--node-config", s.config(name), "-o", "json"}, more...)...)
	got.want(s.t, exitOK)
	var answer restored
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil {
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
	first := s.restore("a", file, "--yes")
	if !first.Done || !strings.Contains(first.Others, "--life "+first.Life) || first.Jobs[1].EpochThen != 12 || first.Jobs[1].EpochLeftOut != 12+backup.DefaultSkip ||
		first.Jobs[0].Paused != "moves" || first.Jobs[0].EpochLeftOut != 0 {
		t.Errorf("%+v", first)
	}
	for _, name := range []string{"b", "t"} {
		s.restore(name, file, "--yes", "--life", first.Life)
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
	first := s.restore("a", file, "--yes")
	with := func(args ...string) result {
		return console{}.run(t, append([]string{"restore", file, "--node-config", s.config("b"), "--yes"}, args...)...)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--node-config", s.config("a")}, exitUnsafe, "there is a data directory already"},
		{[]string{"--life", first.Life, "--skip", "7"}, exitUnsafe, "another --skip"},
		{[]string{"--life", first.Life, "--stopped"}, exitUnsafe, "another --skip or --stopped"},
		{[]string{"--life", "0"}, exitUsage, "no number above 0"},
		{[]string{"--life", "1-xyz"}, exitUsage, "--life"},
		{[]string{"--skip", "18446744073709551615"}, exitFailed, "beyond"},
		{[]string{"--node-config", "/nonexistent"}, exitUsage, "/nonexistent"},
	} {
		with(c.args...).want(t, c.code, c.want)
	}
	s.nodes = strings.Replace(s.nodes, "t: {", "u: {", 1)
	with("--life", first.Life).want(t, exitUnsafe, "another list of nodes")
	s.nodes = strings.Replace(s.nodes, "u: {", "t: {", 1)
	if _, err := os.Stat(s.data("b")); err == nil {
		t.Error("a refused restore has made a directory")
	}
	ctl := console{terminal: true, input: "n\n"}
	ctl.run(t, "restore", file, "--node-config", s.config("b")).want(t, exitFailed, "NEXT EPOCH ABOVE", "nothing was changed")
	console{}.run(t, "restore", file, "--node-config", s.config("b")).want(t, exitUsage, "--yes")
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
	args := []string{"recover", "--node-config", s.config("t")}
	dry := console{}.run(t, append(args, "--dry-run")...)
	dry.want(t, exitOK)
	for _, want := range []string{"is lost", "scheduler", "grant, 2026-", "| b "} {
		if !strings.Contains(dry.out, want) {
			t.Errorf("it does not say %q:\n%s", want, dry.out)
		}
	}
	console{}.run(t, args...).want(t, exitUsage, "--out")
	console{}.run(t, append(args, "--out", out)...).want(t, exitUsage, "--yes")
	got := console{}.run(t, append(args, "--out", out, "--yes", "-o", "json")...)
	got.want(t, exitOK)
	var answer struct {
		Life, Kept, Others string
		Done               bool
		LogEnds            uint64 `json:"log_ends"`
	}
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil || !answer.Done || answer.LogEnds == 0 || !strings.Contains(answer.Others, out) {
		t.Fatalf("%+v, %v", answer, err)
	}
	if _, err := os.Stat(filepath.Join(answer.Kept, "raft.db")); err != nil {
		t.Errorf("the directory of before is not kept: %v", err)
	}
	console{}.run(t, "restore", out, "--node-config", s.config("a"), "--yes").want(t, exitUnsafe, "there is a data directory already")
	for _, name := range []string{"a", "b"} {
		if err := os.RemoveAll(s.data(name)); err != nil {
			t.Fatal(err)
		}
		console{}.run(t, "restore", out, "--node-config", s.config(name), "--yes", "--skip", "9").want(t, exitUsage, "decided already")
		s.restore(name, out, "--yes")
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

func TestRecoverRefuses(t *testing.T) {
	s := hosts(t)
	args := []string{"recover", "--node-config", s.config("a"), "--out", filepath.Join(t.TempDir(), "out"), "--yes"}
	console{}.run(t, args...).want(t, exitFailed, "nothing to recover")
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
	console{}.run(t, args...).want(t, exitUnsafe, "other nodes answer: b at ")
	console{}.run(t, "recover", "--node-config", s.config("b"), "--dry-run").want(t, exitUnsafe, "a process holds the data directory", "stop duoflowd")
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	if err := os.Remove(filepath.Join(s.log("a").Dir, "raft.vote")); err != nil {
		t.Fatal(err)
	}
	console{}.run(t, args...).want(t, exitUnsafe, "may have forgotten", "restore a backup")
	if err := os.WriteFile(filepath.Join(s.log("t").Dir, "raft.db"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	console{}.run(t, "recover", "--node-config", s.config("t"), "--dry-run").want(t, exitUnsafe, "restore a backup")
}

func TestMetastoreSeal(t *testing.T) {
	server := startPostgres(t)
	env := map[string]string{"DUOCTL_ADMIN_DSN": server.Superuser(), "DUOCTL_PASSWORD_FENCER_A": "pw-of-a"}
	ctl := console{env: env}
	ctl.run(t, "metastore", "init", "--fencer", "fencer_a", "--yes").want(t, exitOK)
	fencer, err := fence.New(fence.Config{Job: "scheduler", Group: "airflow", DSN: server.DSN("fencer_a", "pw-of-a", "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	login, err := fencer.Take(t.Context(), fence.Claim{Epoch: 3, Node: "a", Token: "0123456789abcdef0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	ctl.run(t, "metastore", "seal").want(t, exitUsage, "--yes")
	ctl.run(t, "metastore", "seal", "--dry-run").want(t, exitOK)
	if got := query(t, login.DSN(), "SELECT current_user::text"); got != login.Role {
		t.Fatalf("the role is %s", got)
	}
	got := ctl.run(t, "metastore", "seal", "--yes")
	got.want(t, exitOK)
	golden(t, "metastore-seal.table", got.out)
	if got := query(t, server.Superuser(), "SELECT rolcanlogin::text FROM pg_roles WHERE rolname = '"+login.Role+"'"); got != "false" {
		t.Errorf("the role may log in: %s", got)
	}
	got = ctl.run(t, "metastore", "seal", "--yes", "-o", "json")
	got.want(t, exitOK)
	if !strings.Contains(got.out, `"shut": []`) {
		t.Errorf("sealed twice:\n%s", got.out)
	}
	ctl.run(t, "metastore", "seal", "--yes", "--job", "etl").want(t, exitFailed, "no row for job etl")
	ctl.run(t, "metastore", "seal", "--yes", "--job", "A B").want(t, exitUsage, "A B")
	console{}.run(t, "metastore", "seal", "--yes").want(t, exitUsage, "DUOCTL_ADMIN_DSN")
}
