package metastore_test

import (
	"testing"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// The model must let a broken fence through, or a simulation on it shows nothing.

func TestWithoutRevokeAnIdleSessionWritesOn(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		old := b.loginEpoch(1)
		b.take(2, metastore.Revoking)
		b.want(b.loginEpoch(2), metastore.OK, write(2, "new"))
		b.want(old, metastore.OK, write(1, "late"))
		if b.late() != 1 {
			t.Error("no late row")
		}
	})
}

func TestWithoutNoLoginTheOldRoleLogsIn(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		b.take(2, metastore.NoLogin, metastore.Revoking)
		b.drain(2)
		b.want(b.loginEpoch(2), metastore.OK, write(2, "new"))
		b.want(b.loginEpoch(1), metastore.OK, write(1, "late"))
		if b.late() != 1 {
			t.Error("no late row")
		}
	})
}

func TestWithoutADrainAnOpenTransactionCommits(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		old := b.loginEpoch(1)
		b.want(old, metastore.OK, metastore.Begin{}, write(1, "late"))
		b.take(2)
		b.want(b.loginEpoch(2), metastore.OK, write(2, "new"))
		b.want(old, metastore.OK, metastore.Prepared{Statement: write(1, "later still")}) // it has not looked yet
		b.want(old, metastore.OK, metastore.Commit{})
		if b.late() != 2 {
			t.Errorf("%d late rows, want 2", b.late())
		}
	})
}

func TestWithoutADrainAStatementUnderWayCommits(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		old := b.loginEpoch(1)
		slow := write(1, "late")
		slow.Pause = 1
		b.do(old, slow)
		b.take(2)
		b.want(b.loginEpoch(2), metastore.OK, write(2, "new"))
		b.server.Expire(old)
		b.settle()
		if b.late() != 1 {
			t.Error("no late row")
		}
	})
}

// A client that is ended before the fence commits comes back while it may, and has a transaction open when the new epoch begins.
func TestTerminateBeforeTheCommitIsTooEarly(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		old, no := metastore.RoleName(group, job, 1), false
		session := b.loginEpoch(1)
		b.want(b.fencer, metastore.OK, metastore.Begin{},
			metastore.RevokeRole{Group: group, Member: old}, metastore.AlterRole{Name: old, Login: &no}, metastore.Terminate{PID: session})
		b.want(session, metastore.CodeClosed)
		back := b.loginEpoch(1)
		b.want(back, metastore.OK, metastore.Begin{}, write(1, "late"))
		b.want(b.fencer, metastore.OK, metastore.Commit{})
		b.want(b.admin, metastore.OK, write(2, "new"))
		b.want(back, metastore.OK, metastore.Commit{})
		if b.late() != 1 {
			t.Error("no late row")
		}
		b.server.Open(metastore.Login{Role: old, Password: "pw"})
		b.settle()
		if last := b.heard[len(b.heard)-1]; last.Code != metastore.CodeNoLogin {
			t.Errorf("login after the commit: %+v", last)
		}
	})
}

func TestWithoutTheGuardALateTakeOfAnOlderEpochWins(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(2)
		if got := b.take(1); got.Outcome != "stale" || got.Row.Epoch != 2 {
			t.Errorf("take of an older epoch: %+v", got)
		}
		if got := b.take(1, metastore.Guarding, metastore.Ahead); got.Outcome != "taken" {
			t.Errorf("take without the guard: %+v", got)
		}
		b.want(b.loginEpoch(1), metastore.OK, write(1, "late"))
	})
}

// Postgres >= 16: a REVOKE leaves another grantor's grant and only warns.
func TestARevokeThatDoesNothingIsNotBelieved(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		old := b.loginEpoch(1)
		b.want(b.admin, metastore.OK, metastore.GrantRole{Membership: metastore.Membership{Group: group, Member: metastore.RoleName(group, job, 1), Inherit: true}})
		take := metastore.Take{Job: job, Group: group, Epoch: 2, Node: "a", Token: token(2), Password: "pw"}
		if b.version < 16 {
			b.want(b.fencer, metastore.OK, take)
			b.want(old, metastore.CodeDenied, write(1, "late"))
			return
		}
		b.want(b.fencer, metastore.CodeStillMember, take)
		if got := b.server.Rows(metastore.FenceTable)[0].Epoch; got != 1 {
			t.Errorf("the row moved to %d", got)
		}
		b.take(2, metastore.Checking)
		b.want(old, metastore.OK, write(1, "late"))
	})
}

// Postgres <= 15: who became the group before the REVOKE has its rights until the session is gone.
func TestASessionHiddenBehindTheGroup(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		hidden := b.loginEpoch(1)
		if b.version >= 16 {
			b.want(hidden, metastore.CodeDenied, metastore.SetRole{Role: group})
			return
		}
		b.want(hidden, metastore.OK, metastore.SetRole{Role: group})
		b.take(2)
		b.want(hidden, metastore.OK, write(1, "the hole"))
		b.server.Freeze(hidden)
		for range 3 {
			if left := b.drain(2); len(left.Remain) != 1 {
				t.Fatalf("drain does not wait for the frozen session: %+v", left)
			}
		}
		b.server.Send(hidden, metastore.Request{write(1, "late")}) // lies unread
		b.server.Thaw(hidden)
		b.settle()
		if left := b.drain(2); !left.Empty() {
			t.Errorf("drain: %+v", left)
		}
		if got := len(b.server.Rows(work)); got != 1 {
			t.Errorf("%d rows, want only the hole's: the unread statement was run", got)
		}
	})
}

// Postgres <= 15: a login under way that asked for the group in its options is listed nowhere until it is alive.
func TestALateLoginHiddenBehindTheGroup(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		late := b.server.Open(metastore.Login{Role: metastore.RoleName(group, job, 1), Password: "pw", As: group, PostAuthDelay: 1})
		b.settle()
		if b.version >= 16 {
			if reply, _ := b.answer(late, 0); reply.Code != metastore.CodeDenied {
				t.Errorf("login as the group: %+v", reply)
			}
			return
		}
		b.take(2)
		left := b.drain(2)
		if len(left.Unlisted) != 1 || left.Unlisted[0] != late {
			t.Fatalf("drain: %+v", left)
		}
		force := metastore.Drain{Job: job, Group: group, Epoch: 2, Token: token(2), Unlisted: left.Unlisted, Force: true}
		b.want(b.fencer, metastore.OK, force)
		if left = b.want(b.fencer, metastore.OK, force).Value.(metastore.Left); !left.Empty() {
			t.Errorf("drain: %+v", left)
		}
	})
}

func TestALoginInTheMiddleFindsNoLogin(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		slow := b.server.Open(metastore.Login{Role: metastore.RoleName(group, job, 1), Password: "pw", Slow: true})
		late := b.server.Open(metastore.Login{Role: metastore.RoleName(group, job, 1), Password: "pw", PostAuthDelay: 1})
		b.settle()
		b.take(2)
		b.server.Answer(slow)
		b.server.Expire(late)
		b.settle()
		if reply, _ := b.answer(slow, 0); reply.Code != metastore.CodeNoLogin {
			t.Errorf("login that was not authenticated yet: %+v", reply)
		}
		b.want(late, metastore.CodeDenied, write(1, "late")) // it was
	})
}

// A signal is noticed when a backend looks. One that works to the end of its statement commits first.
func TestASignalIsNoticedWhenTheBackendLooks(t *testing.T) {
	for _, blind := range []bool{false, true} {
		b := newBench(t, 18)
		b.take(1)
		old := b.loginEpoch(1)
		slow := write(1, "late")
		slow.Pause = 1
		b.do(old, slow)
		b.take(2)
		b.server.Expire(old)
		b.server.Freeze(old) // while it still works
		if left := b.drain(2); len(left.Remain) != 1 {
			t.Fatalf("drain: %+v", left)
		}
		b.server.Thaw(old)
		for range 10 {
			if blind {
				b.server.StepBlind(old)
			} else {
				b.server.Step(old)
			}
		}
		b.settle()
		if got := len(b.server.Rows(work)); (got == 1) != blind {
			t.Errorf("blind %t: %d rows", blind, got)
		}
		if left := b.drain(2); !left.Empty() {
			t.Errorf("drain: %+v", left)
		}
	}
}

func TestUnblockSparesAFencerThatWaits(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		holder := b.loginEpoch(1)
		b.want(holder, metastore.OK, metastore.Begin{}, metastore.Select{Table: metastore.FenceTable, Key: job, Lock: metastore.ForShare})
		rival := b.login(metastore.Login{Role: "fencer", Password: "pw", As: metastore.Fencer, Application: "fencer"})
		other := b.login(metastore.Login{Role: "fencer", Password: "pw", As: metastore.Fencer, Application: "fencer"})
		take := func(epoch uint64) metastore.Take {
			return metastore.Take{Job: job, Group: group, Epoch: epoch, Node: "a", Token: token(epoch), Password: "pw"}
		}
		if _, answered := b.do(rival, take(2)); answered {
			t.Fatal("the take does not wait")
		}
		if _, answered := b.do(other, take(3)); answered {
			t.Fatal("the take does not wait")
		}
		if got := b.server.BlockedBy(other); len(got) != 1 || got[0] != rival {
			t.Fatalf("blocked by %v", got)
		}
		ended := b.want(b.fencer, metastore.OK, metastore.Unblock{PID: other, Application: "fencer"}).Value.([]metastore.PID)
		if len(ended) != 1 || ended[0] != holder {
			t.Errorf("ended %v, want only who holds the lock (%d)", ended, holder)
		}
		if rows := b.server.Rows(metastore.FenceTable); rows[0].Epoch != 3 {
			t.Errorf("row %+v", rows)
		}
	})
}
