package metastore

import (
	"fmt"
	"slices"
	"strings"
)

// The roles that every server has and the fence uses.
const (
	SignalBackend = "pg_signal_backend"
	ReadAllStats  = "pg_read_all_stats"
	UseReserved   = "pg_use_reserved_connections" // Postgres >= 16
)

var predefined = []string{SignalBackend, ReadAllStats, UseReserved}

// Role is what CREATE ROLE says.
type Role struct {
	Name       string
	Login      bool
	Inherit    bool // Postgres <= 15: rights of its groups are its own without SET ROLE; later the default of its memberships
	CreateRole bool
	Superuser  bool
	Password   string // "" = none: no login by password
}

// Membership is one GRANT of a role to a role.
type Membership struct {
	Group, Member string
	Grantor       string // "" = the server chooses
	Admin         bool
	Inherit, Set  bool // Postgres >= 16
}

func (m Membership) options() options { return options{m.Admin, m.Inherit, m.Set} }

type options struct{ admin, inherit, set bool }

type role struct {
	oid OID
	Role
}

type member struct {
	group, member, grantor OID
	options
}

// catalog is what is known of roles at one moment. It is never changed, only replaced.
type catalog struct {
	roles   []role   // by oid
	members []member // in the order of their making
}

// catalogAt is the catalog from a place in the order of visibility on.
type catalogAt struct {
	at      seq
	catalog *catalog
}

// edit is one change of the catalog: exactly one of role and member is set.
type edit struct {
	role   *role
	member *member
	gone   bool // it is deleted
}

// apply returns the catalog with edits on top.
func (c *catalog) apply(edits []edit) *catalog {
	if len(edits) == 0 {
		return c
	}
	out := &catalog{roles: slices.Clone(c.roles), members: slices.Clone(c.members)}
	for _, e := range edits {
		if e.role != nil {
			out.roles = putRole(out.roles, *e.role, e.gone)
		} else {
			out.members = putMember(out.members, *e.member, e.gone)
		}
	}
	return out
}

func putRole(all []role, r role, gone bool) []role {
	at, found := slices.BinarySearchFunc(all, r.oid, func(r role, oid OID) int { return int(r.oid) - int(oid) })
	switch {
	case gone && found:
		return slices.Delete(all, at, at+1)
	case gone:
		return all
	case found:
		all[at] = r
		return all
	default:
		return slices.Insert(all, at, r)
	}
}

func putMember(all []member, m member, gone bool) []member {
	at := slices.IndexFunc(all, func(o member) bool { return o.group == m.group && o.member == m.member && o.grantor == m.grantor })
	switch {
	case gone && at >= 0:
		return slices.Delete(all, at, at+1)
	case gone:
		return all
	case at >= 0:
		all[at] = m
		return all
	default:
		return append(all, m)
	}
}

func (c *catalog) named(name string) (role, bool) {
	at := slices.IndexFunc(c.roles, func(r role) bool { return r.Name == name })
	if at < 0 {
		return role{}, false
	}
	return c.roles[at], true
}

func (c *catalog) role(oid OID) (role, bool) {
	at, found := slices.BinarySearchFunc(c.roles, oid, func(r role, oid OID) int { return int(r.oid) - int(oid) })
	if !found {
		return role{}, false
	}
	return c.roles[at], true
}

// mustOID is for a configuration, where a name that is missing is the caller's mistake.
func (c *catalog) mustOID(name string) OID {
	r, found := c.named(name)
	if !found {
		panic(fmt.Sprintf("metastore: no role %s in the configuration", name))
	}
	return r.oid
}

func (c *catalog) name(oid OID) string {
	r, found := c.role(oid)
	if !found {
		return ""
	}
	return r.Name
}

func (c *catalog) superuser(oid OID) bool {
	r, found := c.role(oid)
	return found && r.Superuser
}

// way says which memberships count on the way from a role to another.
type way int

const (
	byMember  way = iota // any
	byInherit            // those whose rights are had without SET ROLE
	bySet                // those that SET ROLE may use
)

// reach lists the role and all it is a member of, nearest first.
func (c *catalog) reach(from OID, by way, grantOptions bool) []OID {
	out := []OID{from}
	for at := 0; at < len(out); at++ {
		r, found := c.role(out[at])
		if by == byInherit && !grantOptions && !(found && r.Inherit) {
			continue
		}
		for _, m := range c.members {
			if m.member != out[at] || slices.Contains(out, m.group) {
				continue
			}
			if grantOptions && (by == byInherit && !m.inherit || by == bySet && !m.set) {
				continue
			}
			out = append(out, m.group)
		}
	}
	return out
}

// isMember is pg_has_role(of, group, 'MEMBER').
func (c *catalog) isMember(of, group OID) bool {
	return c.superuser(of) || slices.Contains(c.reach(of, byMember, true), group)
}

// hasPrivs is pg_has_role(of, group, 'USAGE').
func (c *catalog) hasPrivs(of, group OID, grantOptions bool) bool {
	return c.superuser(of) || slices.Contains(c.reach(of, byInherit, grantOptions), group)
}

// canSet says whether a session of the role may do SET ROLE group.
func (c *catalog) canSet(of, group OID, grantOptions bool) bool {
	if !grantOptions {
		return c.isMember(of, group)
	}
	return c.superuser(of) || slices.Contains(c.reach(of, bySet, true), group)
}

// adminOf says whether the role may grant group: it has the ADMIN OPTION, or a role has that it is a member of.
func (c *catalog) adminOf(of, group OID) bool {
	if c.superuser(of) {
		return true
	}
	return slices.ContainsFunc(c.reach(of, byMember, true), func(via OID) bool { return c.ownAdmin(via, group) })
}

// ownAdmin says whether a membership of the role itself has the ADMIN OPTION on group.
func (c *catalog) ownAdmin(of, group OID) bool {
	return slices.ContainsFunc(c.members, func(m member) bool { return m.member == of && m.group == group && m.admin })
}

// bestAdmin is the role in whose name one that has no grantor of its own grants group (Postgres >= 16).
func (c *catalog) bestAdmin(of, group OID) (OID, bool) {
	if c.superuser(of) {
		return bootstrapOID, true
	}
	for _, via := range c.reach(of, byInherit, true) {
		if c.ownAdmin(via, group) {
			return via, true
		}
	}
	return 0, false
}

func (c *catalog) String() string {
	var out strings.Builder
	for _, r := range c.roles {
		out.WriteString(fmt.Sprintf("%s login=%t inherit=%t createrole=%t\n", r.Name, r.Login, r.Inherit, r.CreateRole))
	}
	for _, m := range c.members {
		out.WriteString(fmt.Sprintf("%s in %s by %s %+v\n", c.name(m.member), c.name(m.group), c.name(m.grantor), m.options))
	}
	return out.String()
}
