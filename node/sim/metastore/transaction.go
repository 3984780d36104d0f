package metastore

import "slices"

type txID uint64

// Isolation is a transaction's isolation level.
type Isolation int

// The isolation levels.
const (
	ReadCommitted Isolation = iota
	RepeatableRead
)

// tx is one transaction.
type tx struct {
	id        txID
	pid       PID // 0 once it is prepared, or ended
	isolation Isolation
	snapshot  seq // of RepeatableRead
	fixed     bool
	queried   bool // it has run something that takes a snapshot
	edits     []edit
	keys      []string // of the catalog that it changed
	writes    []*row   // in the order of their first change
	locked    []*row
	notices   []string
	role, as  string   // session's role, and the one it acts as
	own       OID      // of a prepared one: its owner, the role that it acted as
	gid       string   // not "" once prepared
	known     []string // locks after which it looked at the catalogs
	parted    LSN      // its record, 0 = not written yet
}

func (t *tx) tag() string { return "tx/" + number(uint64(t.id)) }

func (t *tx) wrote() bool { return len(t.edits)+len(t.writes) > 0 }

// Record is one committed transaction, as the log has it.
type Record struct {
	LSN  LSN
	PID  PID
	Role string // the session's role
	As   string // the role it acted as when it committed
	Rows []Written
}

// Written is one row that a transaction left behind.
type Written struct {
	Table   string
	Row     Row
	Deleted bool
}

// record is one place in the log, with what it takes to do it again.
type record struct {
	Record
	edits   []edit
	kind    recordKind
	tx      *tx // of a prepared transaction
	flushed bool
}

type recordKind int

const (
	commitRecord recordKind = iota
	prepareRecord
	rollbackRecord // of a prepared transaction
	restoreRecord  // its rows are all there are
)

func (s *Server) begin(b *backend, isolation Isolation) *tx {
	t := &tx{id: s.nextTx, pid: b.pid, isolation: isolation}
	s.nextTx++
	k := s.locks.get(t.tag())
	k.held = append(k.held, holding{owner: t, mode: exclusive})
	b.tx = t
	b.seen = s.visible // AcceptInvalidationMessages
	return t
}

// snapshot is what a statement of the transaction that begins now sees.
func (s *Server) snapshot(t *tx) seq {
	if t.isolation == ReadCommitted {
		return s.visible
	}
	if !t.fixed {
		t.snapshot, t.fixed = s.visible, true
	}
	return t.snapshot
}

// LastLSN is the end of the log.
func (s *Server) LastLSN() LSN { return LSN(len(s.log)) }

// Commits are the records of committed transactions above after, in the order of the log: what the oracle reads.
func (s *Server) Commits(after LSN) []Record {
	var out []Record
	for _, r := range s.log[min(after, s.LastLSN()):] {
		if r.kind == commitRecord {
			out = append(out, r.Record)
		}
	}
	return out
}

// write puts a transaction's record in the log.
func (s *Server) write(t *tx, kind recordKind, flushed bool) LSN {
	r := record{kind: kind, tx: t, edits: t.edits, flushed: flushed}
	r.LSN, r.PID, r.Role, r.As = s.LastLSN()+1, t.pid, t.role, t.as
	for _, w := range t.writes {
		r.Rows = append(r.Rows, Written{Table: w.table, Row: w.next, Deleted: w.deleting})
	}
	s.log = append(s.log, r)
	if flushed {
		for at := len(s.log) - 2; at >= 0 && !s.log[at].flushed; at-- {
			s.log[at].flushed = true
		}
	}
	return r.LSN
}

// show makes a transaction visible and ends it.
func (s *Server) show(t *tx) {
	if t.wrote() {
		s.visible++
		if len(t.edits) > 0 {
			s.catalogs = append(s.catalogs, catalogAt{s.visible, s.latest().apply(t.edits)})
			for _, key := range t.keys {
				s.touched[key] = s.visible
			}
		}
		for _, w := range t.writes {
			w.versions = append(w.versions, version{s.visible, w.next, w.deleting})
			w.writer = nil
		}
	}
	for _, text := range t.notices {
		s.notify(text)
	}
	s.end(t)
}

// abort forgets a transaction.
func (s *Server) abort(t *tx) {
	for _, w := range t.writes {
		w.writer = nil
		if len(w.versions) == 0 {
			s.table(w.table).drop(w)
		}
	}
	s.end(t)
}

func (s *Server) end(t *tx) {
	for _, r := range t.locked {
		r.lockers = slices.DeleteFunc(r.lockers, func(l locker) bool { return l.tx == t })
	}
	s.releaseAll(func(h holding) bool { return h.owner == t && h.session == 0 })
	t.writes, t.locked = nil, nil
}

func (s *Server) latest() *catalog { return s.catalogs[len(s.catalogs)-1].catalog }

// catalogOf is the catalog as it was at a place in the order of visibility.
func (s *Server) catalogOf(at seq) *catalog {
	for i := len(s.catalogs) - 1; ; i-- {
		if s.catalogs[i].at <= at || i == 0 {
			return s.catalogs[i].catalog
		}
	}
}

// cached is what the backend's caches know of roles: what it last looked at, and its own changes.
func (s *Server) cached(b *backend) *catalog {
	c := s.catalogOf(b.seen)
	if b.tx != nil {
		c = c.apply(b.tx.edits)
	}
	return c
}

func (t *tx) knows(key string) bool { return slices.Contains(t.known, key) }
