package metastore

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What the fence's functions (airflowctl/fence/functions.sql) work on.
const (
	FenceTable = "fence"         // duoflow.fence: Key is the job
	Fencer     = "duoflow"       // the role that may call them
	Channel    = "duoflow_fence" // of Listen: "<job> <epoch>" at each take and release
)

// Part is a part of Take that a mutant leaves out.
type Part int

// The parts of Take.
const (
	NoPart   Part = iota
	Revoking      // REVOKE the group from older roles
	NoLogin       // ALTER ROLE ... NOLOGIN of older roles
	Guarding      // the row's epoch must be below
	Checking      // the membership is gone after REVOKE
	Ahead         // no role of that epoch or a higher one may exist
)

// Take is duoflow.take. Value: Taken.
type Take struct {
	Job, Group  string
	Epoch       uint64
	Node, Token string
	Password    string // of the new role
	Without     []Part // for a fence that is to be seen to fail
}

// Taken is the answer of Take.
type Taken struct {
	Outcome     string // taken, done, released, stale, ahead
	Row         Row    // as it is now
	HighestRole uint64
}

// Listen is LISTEN duoflow_fence: Replies with a Notice come at each take and release.
type Listen struct{}

// RoleName is the role of an epoch.
func RoleName(group, job string, epoch uint64) string {
	return fmt.Sprintf("df_%s_%s_e%d", group, job, epoch)
}

// epochRole is a line of duoflow.epoch_roles.
type epochRole struct {
	role
	epoch uint64
}

// epochRoles lists the epoch roles of a job that a query sees which begins now.
func (s *Server) epochRoles(b *backend, job, group string) []epochRole {
	var out []epochRole
	prefix := fmt.Sprintf("df_%s_%s_e", group, job)
	for _, r := range s.queried(b).roles {
		digits, ours := strings.CutPrefix(r.Name, prefix)
		epoch, err := strconv.ParseUint(digits, 10, 63)
		if ours && err == nil && digits[0] >= '1' && digits[0] <= '9' && len(digits) <= 18 {
			out = append(out, epochRole{r, epoch})
		}
	}
	return out
}

// queried is the catalog as SQL reads it: by snapshot, not by the backend's caches.
func (s *Server) queried(b *backend) *catalog { return s.catalogOf(s.snapshot(b.tx)).apply(b.tx.edits) }

func highest(roles []epochRole) (epoch uint64) {
	for _, r := range roles {
		epoch = max(epoch, r.epoch)
	}
	return epoch
}

// callable is the right to execute the fence's functions.
func callable(s *Server, b *backend, _ *run) verdict {
	c := s.cached(b)
	fencer, found := c.named(Fencer)
	if !c.superuser(b.own) && !(found && c.hasPrivs(b.own, fencer.oid, s.grantOptions())) {
		return failed(CodeDenied)
	}
	return onward
}

func mayLock(r Right) bool { return r.Select && (r.Update || r.Lock) }

func (st Take) units() []unit {
	return []unit{
		callable,
		func(_ *Server, b *backend, _ *run) verdict {
			if b.tx.isolation != ReadCommitted {
				return failed(CodeIsolation)
			}
			return onward
		},
		begun(FenceTable, rowShare, mayLock), find(FenceTable, st.Job, anyRow), lockFound(true, anyRow),
		st.decide, st.disarm, st.create, st.give, st.tell,
	}
}

func (st Take) leavesOut(p Part) bool { return slices.Contains(st.Without, p) }

// taking is what Take remembers from one unit to the next.
type taking struct {
	Taken
	left []epochRole // roles still to be disarmed
}

// decide holds the row's lock.
func (st Take) decide(s *Server, b *backend, r *run) verdict {
	held := found(b, r)
	if held == nil {
		return failed(CodeNoRow)
	}
	roles := s.epochRoles(b, st.Job, st.Group)
	t := &taking{Taken: Taken{Row: held[0], HighestRole: highest(roles)}}
	r.local = t
	own := Row{Key: st.Job, Epoch: st.Epoch, Node: st.Node, Token: st.Token}
	switch {
	case held[0] == own:
		if !s.open(b, FenceTable, rowExclusive) {
			return again
		}
		r.row.write(b.tx, own, false)
		t.Outcome = st.repeated(s, b)
	case held[0].Epoch >= st.Epoch && !st.leavesOut(Guarding):
		t.Outcome = "stale"
	case t.HighestRole >= st.Epoch && !st.leavesOut(Ahead):
		t.Outcome = "ahead"
	default:
		if !s.open(b, FenceTable, rowExclusive) {
			return again
		}
		r.row.write(b.tx, own, false)
		t.Outcome, t.Row, t.HighestRole, t.left = "taken", own, st.Epoch, s.armed(b, st.Group, roles)
	}
	r.value = t.Taken
	return onward
}

func (st Take) repeated(s *Server, b *backend) string {
	r, found := s.queried(b).named(RoleName(st.Group, st.Job, st.Epoch))
	group, _ := s.cached(b).named(st.Group)
	if found && r.Login && s.cached(b).isMember(r.oid, group.oid) {
		return "done"
	}
	return "released"
}

// armed are the roles that can log in or have the group.
func (s *Server) armed(b *backend, group string, roles []epochRole) []epochRole {
	c := s.cached(b)
	g, _ := c.named(group)
	return slices.DeleteFunc(slices.Clone(roles), func(r epochRole) bool { return !r.Login && !c.isMember(r.oid, g.oid) })
}

func (st Take) disarm(_ *Server, _ *backend, r *run) verdict {
	t := r.local.(*taking)
	if len(t.left) == 0 {
		return onward
	}
	r.call(disarm{st.Group, t.left[0].Name, st.Without})
	t.left = t.left[1:]
	return again
}

func (st Take) create(_ *Server, _ *backend, r *run) verdict {
	if r.local.(*taking).Outcome == "taken" {
		r.call(CreateRole{Role{Name: RoleName(st.Group, st.Job, st.Epoch), Login: true, Inherit: true, Password: st.Password}})
	}
	return onward
}

func (st Take) give(_ *Server, _ *backend, r *run) verdict {
	if r.local.(*taking).Outcome == "taken" {
		r.call(GrantRole{Membership{Group: st.Group, Member: RoleName(st.Group, st.Job, st.Epoch), Inherit: true}})
	}
	return onward
}

func (st Take) tell(_ *Server, b *backend, r *run) verdict {
	t := r.local.(*taking)
	if t.Outcome == "taken" {
		b.tx.notices = append(b.tx.notices, st.Job+" "+number(st.Epoch))
	}
	r.value = t.Taken
	return onward
}

// disarm is duoflow.disarm.
type disarm struct {
	group, role string
	without     []Part
}

func (st disarm) member(s *Server, b *backend) bool {
	c := s.cached(b)
	r, _ := c.named(st.role)
	g, found := c.named(st.group)
	return found && c.isMember(r.oid, g.oid)
}

func (st disarm) units() []unit {
	return []unit{func(s *Server, b *backend, r *run) verdict {
		r.local = st.member(s, b) && !slices.Contains(st.without, Revoking)
		if r.local.(bool) {
			r.call(RevokeRole{Group: st.group, Member: st.role})
		}
		return onward
	}, func(s *Server, b *backend, r *run) verdict {
		if r.local.(bool) && st.member(s, b) && !slices.Contains(st.without, Checking) {
			return failed(CodeStillMember)
		}
		if held, _ := s.queried(b).named(st.role); held.Login && !slices.Contains(st.without, NoLogin) {
			no := false
			r.call(AlterRole{Name: st.role, Login: &no})
		}
		return onward
	}}
}

func (Listen) units() []unit {
	return []unit{func(_ *Server, b *backend, _ *run) verdict {
		if !slices.Contains(b.listens, Channel) {
			b.listens = append(b.listens, Channel)
		}
		return onward
	}}
}
