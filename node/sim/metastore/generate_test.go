package metastore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// generator makes operations that fit the state which the model is in.
type generator struct {
	*rand.Rand
	gid int
}

// next is an operation for a slot chosen at random, and its kind for the count.
func (g *generator) next(p *play) (op, string) {
	for {
		slot := g.IntN(slots)
		s := p.seats[slot]
		var a metastore.Activity
		for _, line := range p.server.Activity() {
			if line.PID == s.pid {
				a = line
			}
		}
		var o op
		switch {
		case g.IntN(3000) == 0:
			o = op{kind: opCrash}
		case g.IntN(3000) == 0:
			o = op{kind: opStop}
		case s.pid == 0 || s.closed:
			o = op{kind: opOpen, login: g.login(p)}
		case s.sent == 0 && !s.heard:
			o = op{kind: pick(g, opAnswer, opAnswer, opAnswer, opHangup)}
		case s.frozen:
			o = op{kind: opThaw}
		case g.IntN(40) == 0 && a.Listed:
			o = op{kind: opFreeze}
		case a.Paused:
			o = op{kind: pick(g, opExpire, opExpire, opExpire, opHangup)}
		case !s.heard:
			if g.IntN(20) > 0 {
				continue // let it wait
			}
			o = op{kind: opHangup}
		case g.IntN(50) == 0:
			o = op{kind: opHangup}
		default:
			o = op{kind: opSend, request: g.request(p, a)}
		}
		o.slot = slot
		if (o.kind == opStop) && slices.ContainsFunc(p.seats[:], func(s seat) bool { return s.frozen }) {
			continue // it would wait for the frozen one
		}
		if o.kind == opStop && slices.ContainsFunc(p.server.Activity(), func(a metastore.Activity) bool { return a.Paused }) {
			continue // what holds it up might be ended before it
		}
		kind := o.kind
		if kind == opSend {
			kind = fmt.Sprintf("%T", o.request[0])[len("metastore."):]
			if len(o.request) > 1 {
				kind = "several statements"
			}
		}
		return o, kind
	}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// names are the roles that a statement may name.
func (g *generator) name(p *play) string {
	roles := p.server.Roles()
	if g.IntN(20) == 0 {
		return pick(g, "nobody", metastore.Bootstrap, metastore.SignalBackend)
	}
	return roles[g.IntN(len(roles))].Name
}

// ownName is no role that every server has.
func (g *generator) ownName(p *play) string {
	for {
		if name := g.name(p); name != metastore.Bootstrap && name != metastore.SignalBackend {
			return name
		}
	}
}

func (g *generator) password() string {
	return pick(g, "pw", "pw", "pw", "pw", "pw", "pw", "pw", "pw", "other")
}

func (g *generator) login(p *play) metastore.Login {
	login := metastore.Login{Password: g.password(), Application: pick(g, "job", "fencer"), Slow: g.IntN(6) == 0}
	switch n := g.IntN(10); {
	case n < 4:
		login.Role, login.As = "fencer", metastore.Fencer
	case n < 5:
		login.Role = metastore.Bootstrap
	case n < 7:
		login.Role = pick(g, "m0", "m1")
	default:
		login.Role = g.name(p)
	}
	if login.As == "" && g.IntN(8) == 0 {
		login.As = group
	}
	if login.Role == metastore.Bootstrap {
		login.Password = "pw"
	}
	return login
}

func (g *generator) request(p *play, a metastore.Activity) metastore.Request {
	if a.State == metastore.StateAborted && g.IntN(3) > 0 {
		return metastore.Request{pick[metastore.Statement](g, metastore.Rollback{}, metastore.Commit{}, metastore.PrepareTransaction{GID: g.name(p)})}
	}
	if a.State == metastore.StateInTx && g.IntN(4) == 0 {
		return metastore.Request{pick[metastore.Statement](g, metastore.Rollback{}, metastore.Commit{}, metastore.Commit{}, metastore.Commit{})}
	}
	if g.IntN(12) == 0 {
		return metastore.Request{g.onRows(0), g.onRows(5)}
	}
	return metastore.Request{g.statement(p, a.As)}
}

func (g *generator) statement(p *play, as string) metastore.Statement {
	switch n := g.IntN(100); {
	case n < 10:
		return metastore.Begin{Isolation: pick(g, metastore.ReadCommitted, metastore.ReadCommitted, metastore.RepeatableRead)}
	case n < 40:
		return g.onRows(5)
	case n < 63:
		return g.onRoles(p)
	case n < 70:
		return metastore.SetRole{Role: pick(g, group, metastore.Fencer, "", g.name(p))}
	case n < 77:
		return g.signal(p)
	case n < 82:
		return g.prepared(p)
	default:
		return g.fence(p, as)
	}
}

func (g *generator) key() string { return pick(g, "k1", "k2", "k3") }

func (g *generator) row(key string) metastore.Row {
	return metastore.Row{Key: key, Epoch: uint64(g.IntN(6)), Node: pick(g, "a", "b"), Token: "t"}
}

// onRows pauses one time in so many; a request has one pause at most.
func (g *generator) onRows(pauses int) metastore.Statement {
	table, key := work, g.key()
	if g.IntN(5) == 0 {
		table, key = metastore.FenceTable, job
	}
	pause := time.Duration(0)
	if pauses > 0 && g.IntN(pauses) == 0 {
		pause = 1
	}
	switch n := g.IntN(20); {
	case n < 7:
		return metastore.Insert{Table: table, Row: g.row(key), Pause: pause}
	case n < 12:
		return metastore.Update{Table: table, Row: g.row(key), Below: g.IntN(3) == 0, Pause: pause}
	case n < 14:
		return metastore.Delete{Table: table, Key: key}
	case n < 16:
		return metastore.Select{Table: table, Key: pick(g, "", key)}
	case n < 18:
		return metastore.Select{Table: table, Key: key, Lock: pick(g, metastore.ForShare, metastore.ForShare, metastore.ForUpdate)}
	case n < 19:
		return metastore.Advisory{Key: uint64(1 + g.IntN(2)), Session: g.IntN(3) == 0}
	default:
		return metastore.LockTable{Table: table}
	}
}

func (g *generator) onRoles(p *play) metastore.Statement {
	grantor := ""
	if g.IntN(4) == 0 {
		grantor = pick(g, metastore.Bootstrap, metastore.Fencer, g.name(p))
	}
	groupName := pick(g, group, group, g.name(p))
	switch n := g.IntN(20); {
	case n < 3:
		return metastore.CreateRole{Role: metastore.Role{
			Name: pick(g, "c0", "c1", "c2"), Login: g.IntN(4) > 0, Inherit: g.IntN(4) > 0, CreateRole: g.IntN(6) == 0, Password: g.password(),
		}}
	case n < 7:
		return g.alter(p)
	case n < 8:
		return metastore.DropRole{Name: g.ownName(p)}
	case n < 14:
		return metastore.GrantRole{Membership: metastore.Membership{
			Group: groupName, Member: g.name(p), Grantor: grantor, Admin: g.IntN(4) == 0, Inherit: g.IntN(4) > 0, Set: g.IntN(2) == 0,
		}}
	default:
		return metastore.RevokeRole{Group: groupName, Member: g.name(p), Grantor: grantor, AdminOnly: g.IntN(6) == 0, Cascade: g.IntN(4) == 0}
	}
}

func (g *generator) alter(p *play) metastore.AlterRole {
	st := metastore.AlterRole{Name: g.ownName(p)}
	flag, password := g.IntN(2) == 0, g.password()
	switch g.IntN(4) {
	case 0:
		st.Password = &password
	case 1:
		st.Inherit = &flag
	default:
		st.Login = &flag
	}
	return st
}

// session is one that there is.
func (g *generator) session(p *play) metastore.PID {
	var pids []metastore.PID
	for _, s := range p.seats {
		if s.pid != 0 && !s.closed && (s.sent > 0 || s.heard) {
			pids = append(pids, s.pid)
		}
	}
	return pids[g.IntN(len(pids))]
}

func (g *generator) signal(p *play) metastore.Statement {
	pid := g.session(p)
	if g.IntN(3) == 0 {
		return metastore.Cancel{PID: pid}
	}
	return metastore.Terminate{PID: pid}
}

func (g *generator) prepared(p *play) metastore.Statement {
	if known := p.server.Prepared(); len(known) > 0 && g.IntN(3) > 0 {
		gid := known[g.IntN(len(known))]
		return pick[metastore.Statement](g, metastore.CommitPrepared{GID: gid}, metastore.CommitPrepared{GID: gid}, metastore.RollbackPrepared{GID: gid})
	}
	g.gid++
	return metastore.PrepareTransaction{GID: fmt.Sprintf("x%02d", g.gid)}
}

func (g *generator) fence(p *play, as string) metastore.Statement {
	var row metastore.Row
	if rows := p.server.Rows(metastore.FenceTable); len(rows) > 0 {
		row = rows[0]
	}
	epoch := row.Epoch + uint64(g.IntN(3))
	tokenNow := row.Token
	if g.IntN(6) == 0 {
		tokenNow = "t"
	}
	switch n := g.IntN(18); {
	case n < 7:
		take := metastore.Take{Job: job, Group: group, Epoch: max(epoch, 1), Node: pick(g, "a", "b"), Token: pick(g, "t", "u"), Password: "pw"}
		if take.Epoch == row.Epoch && g.IntN(2) == 0 {
			take.Node, take.Token = row.Node, row.Token
		}
		return take
	case n < 11:
		drain := metastore.Drain{Job: job, Group: group, Epoch: row.Epoch, Token: tokenNow, Force: g.IntN(2) == 0}
		if g.IntN(2) == 0 {
			drain.Unlisted = []metastore.PID{}
		}
		return drain
	case n < 13:
		return metastore.Release{Job: job, Group: group, Epoch: row.Epoch, Token: tokenNow}
	case n < 14:
		return metastore.Collect{Job: job, Group: group, Keep: uint64(g.IntN(3)), Most: 2}
	case n < 17 && as != metastore.Bootstrap: // who could end the session that holds up statements
		return metastore.Unblock{PID: g.session(p), Application: "fencer"}
	default:
		return metastore.Probe{Job: job, Group: group}
	}
}
