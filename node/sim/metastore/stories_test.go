package metastore_test

import (
	"github.com/duoflow/duoflow/node/sim/metastore"
)

func as(slot int, login metastore.Login) op {
	if login.Password == "" {
		login.Password = "pw"
	}
	return op{kind: opOpen, slot: slot, login: login}
}

func asks(slot int, request ...metastore.Statement) op {
	return op{kind: opSend, slot: slot, request: request}
}

func does(slot int, kind string) op { return op{kind: kind, slot: slot} }

func takes(slot int, epoch uint64) op {
	return asks(slot, metastore.Take{Job: job, Group: group, Epoch: epoch, Node: "a", Token: token(epoch), Password: "pw"})
}

func drains(slot int, epoch uint64, again bool) op {
	drain := metastore.Drain{Job: job, Group: group, Epoch: epoch, Token: token(epoch)}
	if again {
		drain.Unlisted = []metastore.PID{}
	}
	return asks(slot, drain)
}

// stories are sequences that matter to the fence and that chance would seldom make. They begin with a fencer in slot 0 and a session of epoch 1 in slot 1.
func stories() map[string][]op {
	old := metastore.Login{Role: metastore.RoleName(group, job, 1)}
	fencer := metastore.Login{Role: "fencer", As: metastore.Fencer, Application: "fencer"}
	slow := write(1, "k1")
	slow.Pause = 1
	started := []op{as(0, fencer), takes(0, 1), as(1, old)}
	tell := func(more ...op) []op { return append(started[:len(started):len(started)], more...) }
	no := false
	return map[string][]op{
		"an idle session is powerless": tell(takes(0, 2), asks(1, write(1, "k1")), drains(0, 2, false), drains(0, 2, true)),
		"a transaction that has its locks sees the REVOKE": tell(asks(1, metastore.Begin{}, write(1, "k1")), takes(0, 2),
			asks(1, write(1, "k2")), asks(1, metastore.Commit{}), asks(1, write(1, "k3"))),
		"a transaction that opens another table sees the REVOKE": tell(asks(1, metastore.Begin{}, write(1, "k1")), takes(0, 2),
			asks(1, metastore.Select{Table: metastore.FenceTable}), asks(1, write(1, "k2"))),
		"a transaction that has only read sees it when it writes": tell(asks(1, metastore.Begin{}, metastore.Select{Table: work}), takes(0, 2),
			asks(1, metastore.Select{Table: work}), asks(1, write(1, "k2"))),
		"a statement under way commits":    tell(asks(1, slow), takes(0, 2), does(1, opExpire)),
		"a statement under way is drained": tell(asks(1, slow), takes(0, 2), drains(0, 2, false), drains(0, 2, true)),
		"a frozen session is waited for, and what it has not read is not run": tell(does(1, opFreeze), asks(1, write(1, "k1")), takes(0, 2),
			drains(0, 2, false), drains(0, 2, true), does(1, opThaw), drains(0, 2, true)),
		"a frozen session that is not ended finds the REVOKE": tell(does(1, opFreeze), asks(1, write(1, "k1")), takes(0, 2), does(1, opThaw)),
		"a session that became the group": tell(asks(1, metastore.SetRole{Role: group}), takes(0, 2), asks(1, write(1, "k1")),
			drains(0, 2, false), drains(0, 2, true)),
		"a login that asks for the group": tell(as(2, metastore.Login{Role: old.Role, As: group}), takes(0, 2), asks(2, write(1, "k1")), drains(0, 2, false)),
		"a login in the middle":           tell(as(2, metastore.Login{Role: old.Role, Slow: true}), takes(0, 2), does(2, opAnswer)),
		"a password that changes in the middle of a login": tell(as(2, metastore.Login{Role: old.Role, Slow: true}), as(3, metastore.Login{Role: metastore.Bootstrap}),
			asks(3, metastore.AlterRole{Name: old.Role, Password: new("other")}), does(2, opAnswer), as(4, old)),
		"a prepared transaction is waited for": tell(asks(1, metastore.Begin{}, write(1, "k1")), asks(1, metastore.PrepareTransaction{GID: "x"}), takes(0, 2),
			drains(0, 2, false), drains(0, 2, true), as(2, metastore.Login{Role: metastore.Bootstrap}), asks(2, metastore.CommitPrepared{GID: "x"}), drains(0, 2, true)),
		"a prepared transaction of a session that became the group": tell(asks(1, metastore.SetRole{Role: group}), asks(1, metastore.Begin{}, write(1, "k1")),
			asks(1, metastore.PrepareTransaction{GID: "x"}), takes(0, 2), drains(0, 2, false), drains(0, 2, true)),
		"a grant of another grantor": tell(as(2, metastore.Login{Role: metastore.Bootstrap}),
			asks(2, metastore.GrantRole{Membership: metastore.Membership{Group: group, Member: old.Role, Inherit: true}}), takes(0, 2), asks(1, write(1, "k1"))),
		"the row is locked": tell(asks(1, metastore.Begin{}, metastore.Select{Table: metastore.FenceTable, Key: job, Lock: metastore.ForShare}), takes(0, 2),
			as(2, fencer), takes(2, 3), as(3, fencer), does(1, opHangup)),
		"a fence that commits late": tell(asks(0, metastore.Begin{}, metastore.RevokeRole{Group: group, Member: old.Role}, metastore.AlterRole{Name: old.Role, Login: &no}),
			as(2, old), asks(2, metastore.Begin{}, write(1, "k1")), asks(0, metastore.Commit{}), asks(2, metastore.Commit{}), as(3, old)),
		"a restart": tell(asks(1, metastore.Begin{}, write(1, "k1")), does(0, opStop), as(0, fencer), takes(0, 1), as(1, old), asks(1, write(1, "k2"))),
		"a crash":   tell(asks(1, write(1, "k1")), asks(1, metastore.Begin{}, write(1, "k2")), does(0, opCrash), as(0, fencer), takes(0, 2), as(1, old)),
		"a take that is repeated, and given back": tell(takes(0, 1), asks(0, metastore.Release{Job: job, Group: group, Epoch: 1, Token: token(1)}), takes(0, 1), asks(1, write(1, "k1"))),
	}
}
