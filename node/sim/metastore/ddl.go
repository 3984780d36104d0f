package metastore

import "slices"

// CreateRole is CREATE ROLE.
type CreateRole struct{ Role Role }

// AlterRole is ALTER ROLE. What is nil stays.
type AlterRole struct {
	Name     string
	Login    *bool
	Inherit  *bool
	Password *string
}

// DropRole is DROP ROLE.
type DropRole struct{ Name string }

// GrantRole is GRANT group TO member, WITH what Membership says. On Postgres <= 15 Inherit and Set mean nothing.
type GrantRole struct{ Membership Membership }

// RevokeRole is REVOKE group FROM member. Value: bool, whether anything was revoked; that it was not is only a warning.
type RevokeRole struct {
	Group, Member string
	Grantor       string // "" = the server chooses
	AdminOnly     bool   // REVOKE ADMIN OPTION FOR
	Cascade       bool
}

// touch makes a change of the catalog the transaction's own. Another's that is not ended is waited for; if it was committed after the
// backend looked, the change fails.
func (s *Server) touch(b *backend, key string, conflict Code) verdict {
	if !s.acquire(b, "catalog/"+key, exclusive) {
		return again
	}
	if s.touched[key] > b.seen {
		return failed(conflict)
	}
	if !slices.Contains(b.tx.keys, key) {
		b.tx.keys = append(b.tx.keys, key)
	}
	return onward
}

// look opens the catalog of roles: the backend sees what is committed, if the transaction has not opened it before.
func (s *Server) look(b *backend) {
	if !b.tx.knows("roles") {
		b.tx.known = append(b.tx.known, "roles")
		b.seen = s.visible
	}
}

// lookup finds a role by its name. One that the backend's caches have not got it looks for in what is committed.
func (s *Server) lookup(b *backend, name string) (role, bool) {
	r, found := s.cached(b).named(name)
	if !found {
		b.seen = s.visible
		r, found = s.cached(b).named(name)
	}
	return r, found
}

func roleKey(oid OID) string { return "role/" + number(uint64(oid)) }

func (s *Server) memberKey(m member) string {
	key := "member/" + number(uint64(m.group)) + "/" + number(uint64(m.member))
	if s.grantOptions() {
		key += "/" + number(uint64(m.grantor))
	}
	return key
}

func (st CreateRole) units() []unit {
	return []unit{st.check, func(s *Server, b *backend, _ *run) verdict {
		if v := s.touch(b, "name/"+st.Role.Name, CodeUnique); v != onward {
			return v
		}
		made := role{oid: s.newOID(), Role: st.Role}
		b.tx.edits = append(b.tx.edits, edit{role: &made})
		if c := s.cached(b); s.grantOptions() && !c.superuser(b.own) {
			m := member{group: made.oid, member: b.own, grantor: bootstrapOID, options: options{admin: true}}
			b.tx.edits = append(b.tx.edits, edit{member: &m})
		}
		return onward
	}}
}

func (st CreateRole) check(s *Server, b *backend, _ *run) verdict {
	s.look(b)
	_, found := s.lookup(b, st.Role.Name)
	me, _ := s.cached(b).role(b.own)
	switch {
	case !me.Superuser && (!me.CreateRole || st.Role.Superuser):
		return failed(CodeDenied)
	case found:
		return failed(CodeRoleExists)
	}
	return onward
}

// mayChange says whether the session may alter or drop a role.
func (s *Server) mayChange(c *catalog, me, target OID) bool {
	own, _ := c.role(me)
	switch {
	case own.Superuser:
		return true
	case c.superuser(target), !own.CreateRole:
		return false
	}
	return !s.grantOptions() || c.adminOf(me, target)
}

func (st AlterRole) units() []unit {
	return []unit{func(s *Server, b *backend, r *run) verdict {
		s.look(b)
		target, found := s.lookup(b, st.Name)
		switch {
		case !found:
			return failed(CodeNoRole)
		case !s.mayChange(s.cached(b), b.own, target.oid) && !st.ownPassword(b, target.oid):
			return failed(CodeDenied)
		}
		r.local = target
		return onward
	}, func(s *Server, b *backend, r *run) verdict {
		target := r.local.(role)
		if v := s.touch(b, roleKey(target.oid), CodeInternal); v != onward {
			return v
		}
		target.Role = st.changed(target.Role)
		b.tx.edits = append(b.tx.edits, edit{role: &target})
		return onward
	}}
}

// ownPassword is what everybody may change.
func (st AlterRole) ownPassword(b *backend, target OID) bool {
	return st.Login == nil && st.Inherit == nil && st.Password != nil && b.own == target
}

func (st AlterRole) changed(r Role) Role {
	if st.Login != nil {
		r.Login = *st.Login
	}
	if st.Inherit != nil {
		r.Inherit = *st.Inherit
	}
	if st.Password != nil {
		r.Password = *st.Password
	}
	return r
}

// dropping is what DROP ROLE has to delete.
type dropping struct {
	role    role
	members []member
}

func (st DropRole) units() []unit {
	return []unit{st.check, func(s *Server, b *backend, r *run) verdict {
		if !s.lockRole(b, r.local.(role).oid, accessExclusive) {
			return again
		}
		return onward
	}, st.plan, func(s *Server, b *backend, r *run) verdict {
		for _, m := range r.local.(dropping).members {
			if v := s.touch(b, s.memberKey(m), CodeInternal); v != onward {
				return v
			}
		}
		return onward
	}, func(s *Server, b *backend, r *run) verdict {
		gone := r.local.(dropping)
		if v := s.touch(b, roleKey(gone.role.oid), CodeInternal); v != onward {
			return v
		}
		for _, m := range gone.members {
			b.tx.edits = append(b.tx.edits, edit{member: &m, gone: true})
		}
		b.tx.edits = append(b.tx.edits, edit{role: &gone.role, gone: true})
		b.tx.keys = append(b.tx.keys, "name/"+st.Name)
		return onward
	}}
}

func (st DropRole) check(s *Server, b *backend, r *run) verdict {
	s.look(b)
	target, found := s.lookup(b, st.Name)
	c := s.cached(b)
	me, _ := c.role(b.own)
	switch {
	case !me.Superuser && !me.CreateRole:
		return failed(CodeDenied)
	case !found:
		return failed(CodeNoRole)
	case target.oid == b.own, target.oid == b.user:
		return failed(CodeInUse)
	case !s.mayChange(c, b.own, target.oid):
		return failed(CodeDenied)
	}
	r.local = target
	return onward
}

// plan finds what goes with the role, and what keeps it.
func (st DropRole) plan(s *Server, b *backend, r *run) verdict {
	target := r.local.(role)
	gone := dropping{role: target}
	for _, m := range s.cached(b).members {
		switch {
		case m.group == target.oid, m.member == target.oid:
			gone.members = append(gone.members, m)
		case m.grantor == target.oid && s.grantOptions():
			return failed(CodeDependent)
		}
	}
	for _, t := range s.tables {
		if slices.ContainsFunc(t.rights, func(r right) bool { return r.oid == target.oid }) {
			return failed(CodeDependent)
		}
	}
	r.local = gone
	return onward
}

// grantor is in whose name the session grants or revokes.
func (s *Server) grantor(b *backend, group OID, asked string, giving bool) (OID, Code) {
	c, me := s.cached(b), b.own
	own, _ := c.role(me)
	itself := s.config.Version < 15 && group == me && me == b.user // could have its own members once
	admin := own.Superuser || itself || c.adminOf(me, group) || !s.grantOptions() && own.CreateRole
	if !admin || c.superuser(group) && !own.Superuser {
		return 0, CodeDenied
	}
	if asked == "" && !s.grantOptions() {
		return me, OK
	}
	if asked == "" {
		best, found := c.bestAdmin(me, group)
		if !found {
			return 0, CodeInternal // "no possible grantors": it may, but only after a SET ROLE
		}
		return best, OK
	}
	return s.askedGrantor(c, me, group, asked, giving)
}

func (s *Server) askedGrantor(c *catalog, me, group OID, asked string, giving bool) (OID, Code) {
	r, found := c.named(asked)
	switch {
	case !found:
		return 0, CodeNoRole
	case !s.grantOptions() && giving && r.oid != me && !c.superuser(me):
		return 0, CodeDenied
	case !s.grantOptions():
		return r.oid, OK
	case !c.hasPrivs(me, r.oid, true), giving && r.oid != bootstrapOID && !c.ownAdmin(r.oid, group):
		return 0, CodeDenied
	}
	return r.oid, OK
}

// named looks up both roles of a GRANT or REVOKE and its grantor.
func (s *Server) named(b *backend, group, of, grantor string, giving bool) (member, Code) {
	s.look(b)
	g, found := s.lookup(b, group)
	m, foundMember := s.lookup(b, of)
	if !found || !foundMember {
		return member{}, CodeNoRole
	}
	by, code := s.grantor(b, g.oid, grantor, giving)
	return member{group: g.oid, member: m.oid, grantor: by}, code
}

func (st GrantRole) units() []unit {
	return []unit{func(s *Server, b *backend, r *run) verdict {
		m, code := s.named(b, st.Membership.Group, st.Membership.Member, st.Membership.Grantor, true)
		if code != OK {
			return failed(code)
		}
		c := s.cached(b)
		if slices.Contains(c.reach(m.group, byMember, true), m.member) {
			return failed(CodeCircular)
		}
		m.options = st.Membership.options()
		r.local = m
		return onward
	}, lockGroup, func(s *Server, b *backend, r *run) verdict {
		m := r.local.(member)
		if s.grantOptions() && m.admin && s.cached(b).givesBack(m) {
			return failed(CodeCircular)
		}
		return s.giveMembership(b, m)
	}}
}

// lockRole locks a role itself, and looks at what has changed in the catalogs.
func (s *Server) lockRole(b *backend, oid OID, mode lockMode) bool {
	if !s.acquire(b, "object/"+number(uint64(oid)), mode) {
		return false
	}
	b.seen = s.visible
	return true
}

// lockGroup is how Postgres >= 16 keeps two changes of one group's members apart; before, they fail when they meet.
func lockGroup(s *Server, b *backend, r *run) verdict {
	if s.grantOptions() && !s.lockRole(b, r.local.(member).group, exclusive) {
		return again
	}
	return onward
}

// givesBack says whether the grantor has its ADMIN OPTION only through the one that it wants to give it to.
func (c *catalog) givesBack(m member) bool {
	if m.grantor == bootstrapOID {
		return false
	}
	without := c
	for _, o := range c.members {
		if o.group == m.group && o.member == m.member {
			without = without.apply([]edit{{member: &o, gone: true}})
			if o.admin {
				more, _ := dependents(without, o, true)
				without = without.apply(more)
			}
		}
	}
	return m.member == bootstrapOID || !without.ownAdmin(m.grantor, m.group)
}

// giveMembership inserts the membership, or changes the one there is.
func (s *Server) giveMembership(b *backend, m member) verdict {
	old, there := s.cached(b).sameGrant(m, s.grantOptions())
	if there && (s.grantOptions() && old.options == m.options || !s.grantOptions() && (old.admin || !m.admin)) {
		return onward // a notice: it is a member already
	}
	if s.grantOptions() && !there && m.grantor != bootstrapOID && !s.lockRole(b, m.grantor, accessShare) {
		return again
	}
	conflict := CodeUnique
	if there {
		conflict = CodeInternal
	}
	if v := s.touch(b, s.memberKey(m), conflict); v != onward {
		return v
	}
	if there {
		b.tx.edits = append(b.tx.edits, edit{member: &old, gone: true})
	}
	b.tx.edits = append(b.tx.edits, edit{member: &m})
	return onward
}

// sameGrant finds the membership that a grant would meet: of the same grantor, or before Postgres 16 of any.
func (c *catalog) sameGrant(m member, grantOptions bool) (member, bool) {
	for _, o := range c.members {
		if o.group == m.group && o.member == m.member && (!grantOptions || o.grantor == m.grantor) {
			return o, true
		}
	}
	return member{}, false
}

func (st RevokeRole) units() []unit {
	return []unit{func(s *Server, b *backend, r *run) verdict {
		m, code := s.named(b, st.Group, st.Member, st.Grantor, false)
		r.local = m
		return failed(code)
	}, lockGroup, st.plan, func(s *Server, b *backend, r *run) verdict {
		for _, e := range r.local.([]edit) {
			if v := s.touch(b, s.memberKey(*e.member), CodeInternal); v != onward {
				return v
			}
		}
		b.tx.edits = append(b.tx.edits, r.local.([]edit)...)
		return onward
	}}
}

// plan finds what the REVOKE changes.
func (st RevokeRole) plan(s *Server, b *backend, r *run) verdict {
	c := s.cached(b)
	old, there := c.sameGrant(r.local.(member), s.grantOptions())
	r.value, r.local = there, []edit(nil)
	if !there {
		return onward // a warning
	}
	edits := []edit{{member: &old, gone: true}}
	if st.AdminOnly {
		kept := old
		kept.admin = false
		edits = []edit{{member: &kept}}
	}
	if s.grantOptions() && old.admin {
		more, ok := dependents(c.apply(edits), old, st.Cascade)
		if !ok {
			return failed(CodeDependent)
		}
		edits = append(edits, more...)
	}
	r.local = edits
	return onward
}

// dependents are the grants that nobody could have made any more once a membership with ADMIN OPTION is gone.
func dependents(c *catalog, lost member, cascade bool) (edits []edit, ok bool) {
	if c.ownAdmin(lost.member, lost.group) {
		return nil, true // it has the option from another grantor
	}
	for _, m := range c.members {
		if m.group != lost.group || m.grantor != lost.member {
			continue
		}
		if !cascade {
			return nil, false
		}
		gone := edit{member: &m, gone: true}
		edits = append(edits, gone)
		if m.admin {
			more, _ := dependents(c.apply(edits), m, true)
			edits = append(edits, more...)
		}
	}
	return edits, true
}
