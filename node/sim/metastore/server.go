package metastore

import "slices"

// PID names a backend: one session, or a login that becomes one. PIDs are never used twice.
type PID int32

// OID names a role for ever, whatever another role of the same name does later.
type OID uint32

// LSN is a place in the log: the number of records up to there. 0 = before the first.
type LSN uint64

// seq is a place in the order in which transactions became visible. It differs from the LSN when a commit waits for a standby.
type seq uint64

// Bootstrap is the superuser that every server has.
const Bootstrap = "postgres"

const (
	bootstrapOID OID = 10
	firstOID     OID = 16384
)

// Config is what a server is made with.
type Config struct {
	Version        int     // major version, from 14 to 18
	Password       string  // of Bootstrap
	Tables         []Table // rights on a table are given to roles that exist then: see Grants
	Roles          []Role  // made before the tables' rights are given
	Memberships    []Membership
	MaxConnections int  // for other roles than superusers; 0 = no limit
	Synchronous    bool // every commit waits until Replicated has reached its record
}

// Server is one model server. The zero value is of no use: see New.
type Server struct {
	config   Config
	timeline int
	down     state
	nextPID  PID
	nextOID  OID
	nextTx   txID
	nextRow  uint64
	backends []*backend // by PID
	prepared []*tx      // prepared transactions, by gid
	tables   []*table
	locks    locks

	log        []record
	replicated LSN // what the synchronous standby has
	visible    seq
	catalogs   []catalogAt // never empty, by seq
	touched    map[string]seq
	replies    []Reply
}

type state int

const (
	running state = iota
	stopping
	stopped
)

// New makes a running server.
func New(config Config) *Server {
	s := &Server{config: config, timeline: 1, nextPID: 100, nextOID: firstOID, nextTx: 1, touched: map[string]seq{}}
	first := &catalog{roles: []role{{oid: bootstrapOID, Role: Role{Name: Bootstrap, Login: true, Inherit: true, CreateRole: true, Superuser: true, Password: config.Password}}}}
	for i, name := range predefined {
		first.roles = append(first.roles, role{oid: OID(3000 + i), Role: Role{Name: name, Inherit: true}})
	}
	for _, r := range config.Roles {
		first.roles = append(first.roles, role{oid: s.newOID(), Role: r})
	}
	for _, m := range config.Memberships {
		first.members = append(first.members, member{
			group: first.mustOID(m.Group), member: first.mustOID(m.Member), grantor: first.mustOID(orBootstrap(m.Grantor)), options: m.options(),
		})
	}
	s.catalogs = []catalogAt{{catalog: first}}
	for _, t := range config.Tables {
		s.tables = append(s.tables, newTable(t, first))
	}
	return s
}

func orBootstrap(name string) string {
	if name == "" {
		return Bootstrap
	}
	return name
}

func (s *Server) newOID() OID {
	s.nextOID++
	return s.nextOID
}

// Version is the major version.
func (s *Server) Version() int { return s.config.Version }

// Timeline is 1 at first and one more after each Promote and Recover.
func (s *Server) Timeline() int { return s.timeline }

// Up says whether the server takes connections.
func (s *Server) Up() bool { return s.down == running }

// options says whether memberships have options of their own, and one grant for each grantor.
func (s *Server) grantOptions() bool { return s.config.Version >= 16 }

func (s *Server) backend(pid PID) *backend {
	at, found := slices.BinarySearchFunc(s.backends, pid, func(b *backend, pid PID) int { return int(b.pid - pid) })
	if !found {
		return nil
	}
	return s.backends[at]
}

func (s *Server) table(name string) *table {
	for _, t := range s.tables {
		if t.name == name {
			return t
		}
	}
	return nil
}
