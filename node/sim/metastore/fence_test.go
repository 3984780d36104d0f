package metastore_test

import (
	"testing"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

func TestTheFenceHolds(t *testing.T) {
	versions(t, func(b *bench) {
		t := b.t
		b.take(1)
		idle, open, busy := b.loginEpoch(1), b.loginEpoch(1), b.loginEpoch(1)
		b.want(open, metastore.OK, metastore.Begin{}, write(1, "open"))
		slow := write(1, "slow")
		slow.Pause = 1
		if _, answered := b.do(busy, slow); answered {
			t.Fatal("the slow statement is over")
		}
		if got := b.take(2); got.Outcome != "taken" {
			t.Fatalf("take: %+v", got)
		}
		b.want(idle, metastore.CodeDenied, write(1, "late"))
		left := b.drain(2)
		if !left.Holds || left.Empty() {
			t.Fatalf("first look: %+v", left)
		}
		if left = b.drain(2); !left.Empty() {
			t.Fatalf("second look: %+v", left)
		}
		b.want(b.loginEpoch(2), metastore.OK, write(2, "new"))
		for _, old := range []metastore.PID{idle, open, busy} {
			b.want(old, metastore.CodeClosed, metastore.Commit{})
		}
		b.server.Open(metastore.Login{Role: metastore.RoleName(group, job, 1), Password: "pw"})
		b.settle()
		if last := b.heard[len(b.heard)-1]; last.Code != metastore.CodeNoLogin {
			t.Errorf("login of the old role: %+v", last)
		}
		if late := b.late(); late != 0 {
			t.Errorf("%d late rows", late)
		}
	})
}
