package metastore

import (
	"fmt"
	"slices"
)

// Activity is one line of pg_stat_activity, and what only the model can know.
type Activity struct {
	PID         PID
	Role        string // the session's; "" = dropped, or not known yet
	As          string // the role it acts as
	Application string
	State       string // idle, active, idle in transaction, idle in transaction (aborted); "" = a login under way
	Listed      bool   // pg_stat_activity shows it, with its role
	Waiting     bool   // for a lock
	Paused      bool   // for a length of time
	BlockedBy   []PID
}

// The states of a session.
const (
	StateIdle    = "idle"
	StateActive  = "active"
	StateInTx    = "idle in transaction"
	StateAborted = "idle in transaction (aborted)"
)

func (b *backend) state() string {
	switch {
	case b.phase < ready:
		return ""
	case b.run != nil:
		return StateActive
	case b.failed:
		return StateAborted
	case b.block:
		return StateInTx
	}
	return StateIdle
}

// Activity lists the backends by PID.
func (s *Server) Activity() []Activity {
	var out []Activity
	c := s.latest()
	for _, b := range s.backends {
		out = append(out, Activity{
			PID: b.pid, Role: c.name(b.user), As: c.name(b.own), Application: b.login.Application, State: b.state(),
			Listed: b.phase == ready, Waiting: b.wait != nil && b.wait.lock != "", BlockedBy: s.BlockedBy(b.pid),
			Paused: b.phase == ready && b.wait != nil && b.wait.lock == "" && b.wait.timer > 0,
		})
	}
	return out
}

// Locked says whether somebody has locked the whole table, or waits to: then nobody else gets at it.
func (s *Server) Locked(table string) bool {
	k, _, found := s.locks.find("table/" + table)
	return found && (slices.ContainsFunc(k.held, func(h holding) bool { return h.mode == accessExclusive }) ||
		slices.ContainsFunc(k.waiting, func(r request) bool { return r.mode == accessExclusive }))
}

// Roles lists the roles that are committed, but for those of every server.
func (s *Server) Roles() []Role {
	var out []Role
	for _, r := range s.latest().roles {
		if r.oid >= firstOID {
			out = append(out, r.Role)
		}
	}
	return out
}

// Memberships lists the memberships that are committed, in the order of their making.
func (s *Server) Memberships() []Membership {
	c := s.latest()
	var out []Membership
	for _, m := range c.members {
		group, of := c.name(m.group), c.name(m.member)
		if group != "" && of != "" {
			out = append(out, Membership{Group: group, Member: of, Grantor: c.name(m.grantor), Admin: m.admin, Inherit: m.inherit, Set: m.set})
		}
	}
	return out
}

// IsMember is pg_has_role(role, group, 'MEMBER'), as a new session would see it.
func (s *Server) IsMember(name, group string) bool {
	c := s.latest()
	r, found := c.named(name)
	g, foundGroup := c.named(group)
	return found && foundGroup && c.isMember(r.oid, g.oid)
}

// String is the server's whole state that can be seen from outside, for a trace.
func (s *Server) String() string {
	text := fmt.Sprintf("timeline %d, log at %d\n%s", s.timeline, s.LastLSN(), s.latest())
	for _, t := range s.tables {
		text += fmt.Sprintf("%s %v\n", t.name, s.Rows(t.name))
	}
	for _, a := range s.Activity() {
		text += fmt.Sprintf("%+v\n", a)
	}
	return text
}
