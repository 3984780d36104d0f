package metastore_test

import (
	"testing"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

const (
	group = "airflow"
	job   = "scheduler"
	work  = "w"
)

// bench is a server that is set up for one job, whose clients act at once unless a test says otherwise.
type bench struct {
	t       *testing.T
	server  *metastore.Server
	heard   []metastore.Reply
	admin   metastore.PID
	fencer  metastore.PID
	version int
}

func config(version int) metastore.Config {
	return metastore.Config{
		Version: version, Password: "pw",
		Roles: []metastore.Role{
			{Name: group, Inherit: true}, {Name: metastore.Fencer, Inherit: true, CreateRole: true},
			{Name: "fencer", Login: true, Password: "pw"},
		},
		Memberships: []metastore.Membership{
			{Group: group, Member: metastore.Fencer, Admin: true},
			{Group: metastore.SignalBackend, Member: metastore.Fencer, Inherit: true, Set: true},
			{Group: metastore.ReadAllStats, Member: metastore.Fencer, Inherit: true, Set: true},
			{Group: metastore.Fencer, Member: "fencer", Set: true},
		},
		Tables: []metastore.Table{
			{Name: metastore.FenceTable, Rights: []metastore.Right{
				{Role: metastore.Fencer, Select: true, Update: true}, {Role: group, Select: true, Lock: true},
			}},
			{Name: work, Rights: []metastore.Right{{Role: group, Select: true, Insert: true, Update: true, Delete: true}}},
		},
	}
}

func newBench(t *testing.T, version int) *bench {
	t.Helper()
	b := &bench{t: t, server: metastore.New(config(version)), version: version}
	b.admin = b.login(metastore.Login{Role: metastore.Bootstrap, Password: "pw"})
	b.fencer = b.login(metastore.Login{Role: "fencer", Password: "pw", As: metastore.Fencer})
	b.want(b.admin, metastore.OK, metastore.Insert{Table: metastore.FenceTable, Row: metastore.Row{Key: job}})
	return b
}

// settle lets every backend go on as far as it can.
func (b *bench) settle() {
	for pids := b.server.Runnable(); len(pids) > 0; pids = b.server.Runnable() {
		b.server.Step(pids[0])
	}
	b.heard = append(b.heard, b.server.Replies()...)
}

func (b *bench) login(login metastore.Login) metastore.PID {
	b.t.Helper()
	pid := b.server.Open(login)
	b.settle()
	if code, answered := b.answer(pid, 0); !answered || code.Code != metastore.OK {
		b.t.Fatalf("login of %s: %+v", login.Role, code)
	}
	return pid
}

func (b *bench) answer(pid metastore.PID, request int) (metastore.Reply, bool) {
	for _, r := range b.heard {
		if r.PID == pid && r.Request == request && r.Notice == "" {
			return r, true
		}
	}
	return metastore.Reply{}, false
}

// do runs a request as far as it goes.
func (b *bench) do(pid metastore.PID, request ...metastore.Statement) (metastore.Reply, bool) {
	n := b.server.Send(pid, request)
	if n == 0 {
		return metastore.Reply{PID: pid, Code: metastore.CodeClosed, Closed: true}, true
	}
	b.settle()
	return b.answer(pid, n)
}

func (b *bench) want(pid metastore.PID, code metastore.Code, request ...metastore.Statement) metastore.Reply {
	b.t.Helper()
	reply, answered := b.do(pid, request...)
	if !answered || reply.Code != code {
		b.t.Fatalf("%#v: answered %t, code %q, want %q", request, answered, reply.Code, code)
	}
	return reply
}

func (b *bench) take(epoch uint64, without ...metastore.Part) metastore.Taken {
	b.t.Helper()
	reply := b.want(b.fencer, metastore.OK, metastore.Take{Job: job, Group: group, Epoch: epoch, Node: "a", Token: token(epoch), Password: "pw", Without: without})
	return reply.Value.(metastore.Taken)
}

func (b *bench) drain(epoch uint64) metastore.Left {
	b.t.Helper()
	return b.want(b.fencer, metastore.OK, metastore.Drain{Job: job, Group: group, Epoch: epoch, Token: token(epoch)}).Value.(metastore.Left)
}

func (b *bench) loginEpoch(epoch uint64) metastore.PID {
	b.t.Helper()
	return b.login(metastore.Login{Role: metastore.RoleName(group, job, epoch), Password: "pw"})
}

func token(epoch uint64) string { return "token" + string(rune('0'+epoch)) }

func write(epoch uint64, key string) metastore.Insert {
	return metastore.Insert{Table: work, Row: metastore.Row{Key: key, Epoch: epoch}}
}

// late counts rows of the job that were committed after one of a newer epoch.
func (b *bench) late() int {
	late, highest := 0, uint64(0)
	for _, commit := range b.server.Commits(0) {
		for _, w := range commit.Rows {
			if w.Table != work {
				continue
			}
			if w.Row.Epoch < highest {
				late++
			}
			highest = max(highest, w.Row.Epoch)
		}
	}
	return late
}

// versions runs a test on the oldest and newest kinds of server.
func versions(t *testing.T, test func(b *bench)) {
	t.Helper()
	for _, version := range []int{15, 16, 18} {
		t.Run("Postgres "+string(rune('0'+version/10))+string(rune('0'+version%10)), func(t *testing.T) { test(newBench(t, version)) })
	}
}
