package metastore_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// on goes on with another server, or the same after a start.
func (b *bench) on(server *metastore.Server) {
	b.t.Helper()
	b.server = server
	b.admin = b.login(metastore.Login{Role: metastore.Bootstrap, Password: "pw"})
	b.fencer = b.login(metastore.Login{Role: "fencer", Password: "pw", As: metastore.Fencer})
}

func (b *bench) keys() string {
	var keys []string
	for _, row := range b.server.Rows(work) {
		keys = append(keys, row.Key)
	}
	return strings.Join(keys, " ")
}

func TestACrashKeepsWhatWasCommitted(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		session := b.loginEpoch(1)
		b.want(session, metastore.OK, write(1, "kept"))
		b.want(session, metastore.OK, metastore.Begin{}, write(1, "lost"))
		b.take(2)
		b.server.Crash(true)
		b.server.Start()
		b.on(b.server)
		if got := b.keys(); got != "kept" {
			t.Errorf("rows %q", got)
		}
		if b.server.IsMember(metastore.RoleName(group, job, 1), group) {
			t.Error("the crash gave the old role its rights back")
		}
		b.want(session, metastore.CodeClosed, metastore.Commit{})
		if got := b.take(2); got.Outcome != "done" {
			t.Errorf("repeated take: %+v", got)
		}
	})
}

func TestACrashMayLoseAsynchronousCommits(t *testing.T) {
	for _, lose := range []bool{false, true} {
		b := newBench(t, 18)
		careless := b.login(metastore.Login{Role: metastore.Bootstrap, Password: "pw", Asynchronous: true})
		b.want(careless, metastore.OK, write(1, "a"))
		b.want(b.admin, metastore.OK, write(1, "b")) // carries a along
		b.want(careless, metastore.OK, write(1, "c"))
		b.server.Crash(lose)
		b.server.Start()
		if got := b.keys(); (got == "a b c") == lose || lose && got != "a b" {
			t.Errorf("lose %t: rows %q", lose, got)
		}
	}
}

func TestAFastShutdownEndsEverySession(t *testing.T) {
	b := newBench(t, 18)
	b.want(b.admin, metastore.OK, metastore.Begin{}, write(1, "lost"))
	b.server.Freeze(b.fencer)
	b.server.Stop()
	early := b.server.Open(metastore.Login{Role: metastore.Bootstrap, Password: "pw"})
	b.settle()
	if reply, _ := b.answer(early, 0); reply.Code != metastore.CodeStarting {
		t.Errorf("login while it stops: %+v", reply)
	}
	if b.server.Up() || len(b.server.Activity()) != 1 {
		t.Errorf("sessions: %+v", b.server.Activity())
	}
	b.server.Thaw(b.fencer)
	b.settle()
	if len(b.server.Activity()) != 0 || b.keys() != "" {
		t.Errorf("after the shutdown:\n%s", b.server)
	}
	b.server.Start()
	b.on(b.server)
}

// A standby that has not got the fence has the old role with its rights.
func TestAStandbyWithoutTheLastCommits(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		before := b.server.LastLSN()
		b.take(2)
		b.want(b.loginEpoch(2), metastore.OK, write(2, "lost"))
		old := b.server
		b.on(old.Promote(old.LastLSN()))
		if b.keys() != "lost" || b.server.Timeline() != 2 || len(b.server.Commits(0)) != len(old.Commits(0)) {
			t.Errorf("with everything: %s", b.server)
		}
		b.on(old.Promote(before))
		if got := b.server.Rows(metastore.FenceTable)[0].Epoch; got != 1 || b.keys() != "" {
			t.Errorf("without the last: %s", b.server)
		}
		b.want(b.loginEpoch(1), metastore.OK, write(1, "the residue"))
		if got := b.take(3); got.Outcome != "taken" {
			t.Errorf("take: %+v", got)
		}
		b.server.Open(metastore.Login{Role: metastore.RoleName(group, job, 2), Password: "pw"})
		b.settle()
		if last := b.heard[len(b.heard)-1]; last.Code != metastore.CodeNoLogin && last.Code != metastore.CodePassword {
			t.Errorf("login as a role that the standby never had: %+v", last)
		}
		if len(old.Rows(work)) != 1 {
			t.Error("the old primary has changed")
		}
	})
}

func TestACommitWaitsForTheSynchronousStandby(t *testing.T) {
	setup := config(18)
	setup.Synchronous = true
	b := &bench{t: t, server: metastore.New(setup), version: 18}
	b.admin = b.login(metastore.Login{Role: metastore.Bootstrap, Password: "pw"})
	if _, answered := b.do(b.admin, write(1, "a")); answered {
		t.Fatal("the commit did not wait")
	}
	if b.keys() != "" || b.server.LastLSN() != 1 {
		t.Errorf("it is visible before the standby has it: %s", b.server)
	}
	b.server.Replicated(1)
	b.settle()
	if reply, answered := b.answer(b.admin, 1); !answered || reply.Code != metastore.OK || b.keys() != "a" {
		t.Errorf("answer %+v", reply)
	}
	// Ended while it waits: committed here, and nobody was told.
	if _, answered := b.do(b.admin, write(1, "b")); answered {
		t.Fatal("the commit did not wait")
	}
	careless := b.login(metastore.Login{Role: metastore.Bootstrap, Password: "pw", Asynchronous: true})
	b.want(careless, metastore.OK, metastore.Terminate{PID: b.admin})
	if b.keys() != "a b" {
		t.Errorf("rows %q", b.keys())
	}
	if survivor := b.server.Promote(1); len(survivor.Rows(work)) != 1 {
		t.Error("the standby has what it never got")
	}
}

// Roles are the server's, rows the database's: after a restore of a dump the roles are ahead.
func TestARestoreOfTheRows(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		before := b.server.LastLSN()
		b.take(2)
		b.take(3)
		b.server.RestoreRows(before)
		if got := b.take(2); got.Outcome != "ahead" || got.HighestRole != 3 || got.Row.Epoch != 1 {
			t.Errorf("take: %+v", got)
		}
		if got := b.take(4); got.Outcome != "taken" {
			t.Errorf("take: %+v", got)
		}
		b.server.Crash(false)
		b.server.Start()
		if rows := b.server.Rows(metastore.FenceTable); len(rows) != 1 || rows[0].Epoch != 4 {
			t.Errorf("after a crash: %+v", rows)
		}
	})
}

func TestAPreparedTransactionOutlivesACrashAndADrainWaitsForIt(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		session := b.loginEpoch(1)
		b.want(session, metastore.OK, metastore.Begin{}, write(1, "late"))
		b.want(session, metastore.OK, metastore.PrepareTransaction{GID: "x"})
		b.server.Crash(true)
		b.server.Start()
		b.on(b.server)
		b.take(2)
		if left := b.drain(2); !slices.Equal(left.Prepared, []string{"x"}) {
			t.Errorf("drain: %+v", left)
		}
		if _, answered := b.do(b.loginEpoch(2), write(2, "late")); answered {
			t.Error("the key of the prepared transaction is free")
		}
		b.want(b.admin, metastore.OK, metastore.CommitPrepared{GID: "x"})
		if left := b.drain(2); len(left.Prepared) != 0 || b.keys() != "late" {
			t.Errorf("drain: %+v, rows %q", left, b.keys())
		}
	})
}

// source draws the delays from a seed.
type source struct{ *rand.Rand }

func (s source) Delay(metastore.Moment, metastore.PID) time.Duration {
	return time.Duration(1 + s.IntN(1000))
}

func (s source) Blind(metastore.PID) bool { return s.IntN(4) == 0 }

// timedTrace plays sessions that get in each other's way through time.
func timedTrace(t *testing.T, seed uint64) string {
	t.Helper()
	server := metastore.New(config(15))
	chance := source{rand.New(rand.NewPCG(seed, 1))}
	timed := metastore.NewTimed(server, chance)
	var trace []string
	var pids []metastore.PID
	for range 5 {
		pids = append(pids, server.Open(metastore.Login{Role: metastore.Bootstrap, Password: "pw", LockTimeout: 20 * time.Microsecond}))
	}
	for now := time.Duration(0); now < 100*time.Microsecond; now += time.Microsecond {
		pid := pids[chance.IntN(len(pids))]
		switch chance.IntN(6) {
		case 0:
			server.Send(pid, metastore.Request{metastore.Begin{}, write(uint64(chance.IntN(5)), string(rune('a'+chance.IntN(3))))})
		case 1:
			server.Send(pid, metastore.Request{metastore.Commit{}})
		case 2:
			server.Send(pid, metastore.Request{metastore.Sleep{For: 5 * time.Microsecond}})
		case 3:
			server.Send(pid, metastore.Request{metastore.Cancel{PID: pids[chance.IntN(len(pids))]}})
		}
		timed.Advance(now)
		for _, reply := range server.Replies() {
			trace = append(trace, strings.Join([]string{now.String(), string(reply.Code)}, " "))
		}
	}
	return strings.Join(trace, "\n") + server.String()
}

func TestOneSeedOneTrace(t *testing.T) {
	seen := map[string]bool{}
	var all strings.Builder
	for seed := range uint64(50) {
		trace := timedTrace(t, seed)
		if again := timedTrace(t, seed); again != trace {
			t.Fatalf("seed %d has two traces:\n%s\nand\n%s", seed, trace, again)
		}
		seen[trace] = true
		all.WriteString(trace)
	}
	if len(seen) < 50 {
		t.Errorf("%d different traces of 50 seeds", len(seen))
	}
	for _, code := range []metastore.Code{metastore.CodeLockTimeout, metastore.CodeCancelled, metastore.CodeUnique} {
		if !strings.Contains(all.String(), string(code)) {
			t.Errorf("no seed has seen %s", code)
		}
	}
}

func TestADeadlockIsBroken(t *testing.T) {
	server := metastore.New(config(18))
	timed := metastore.NewTimed(server, source{rand.New(rand.NewPCG(1, 1))})
	var pids []metastore.PID
	for i, keys := range []string{"ab", "ba"} {
		pids = append(pids, server.Open(metastore.Login{Role: metastore.Bootstrap, Password: "pw", LockTimeout: time.Duration(3*i) * time.Second}))
		server.Send(pids[i], metastore.Request{metastore.Begin{}, write(1, keys[:1])})
	}
	timed.Advance(time.Millisecond)
	for i, keys := range []string{"b", "a"} {
		server.Send(pids[i], metastore.Request{write(1, keys), metastore.Commit{}})
	}
	timed.Advance(time.Second / 2)
	if got := server.BlockedBy(pids[0]); len(got) != 1 || got[0] != pids[1] {
		t.Fatalf("blocked by %v", got)
	}
	timed.Advance(2 * time.Second)
	var codes []metastore.Code
	for _, reply := range server.Replies() {
		if reply.Request == 2 {
			codes = append(codes, reply.Code)
		}
	}
	if !slices.Contains(codes, metastore.CodeDeadlock) || !slices.Contains(codes, metastore.OK) || len(server.Rows(work)) != 2 {
		t.Errorf("answers %q, rows %v", codes, server.Rows(work))
	}
}
