package metastore

import "time"

// Begin is BEGIN.
type Begin struct{ Isolation Isolation }

// Commit is COMMIT. In a transaction that failed it is a rollback; Value says whether it committed (bool).
type Commit struct{}

// Rollback is ROLLBACK.
type Rollback struct{}

// Sleep is SELECT pg_sleep.
type Sleep struct{ For time.Duration }

// SetRole is SET ROLE, with "" RESET ROLE: back to the role of the login's options, with no look at the right to it.
type SetRole struct{ Role string }

// Insert is INSERT of one row. Its right is looked at when it starts, the row is there after Pause. Value: int, rows written.
type Insert struct {
	Table string
	Row   Row
	Pause time.Duration
}

// Update is UPDATE of all columns but Key, of the row with that Key. Value: int, rows written.
type Update struct {
	Table string
	Row   Row
	Below bool // only where the row's Epoch is below
	Pause time.Duration
}

// Delete is DELETE of the row with the key. Value: int.
type Delete struct{ Table, Key string }

// Strength is the lock that a Select takes on the rows it finds.
type Strength int

// The strengths of a Select.
const (
	NoLock Strength = iota
	ForShare
	ForUpdate
)

// Select is SELECT of one row, or with Key "" and no lock of all. Value: []Row.
type Select struct {
	Table, Key string
	Lock       Strength
}

// LockTable is LOCK TABLE IN ACCESS EXCLUSIVE MODE.
type LockTable struct{ Table string }

// Advisory is pg_advisory_xact_lock, or with Session pg_advisory_lock.
type Advisory struct {
	Key     uint64
	Session bool
}

// ends tells the statements that a failed transaction takes.
func ends(statement Statement) bool {
	switch statement.(type) {
	case Commit, Rollback, PrepareTransaction:
		return true
	}
	return false
}

func (st Begin) units() []unit {
	return []unit{func(_ *Server, b *backend, _ *run) verdict {
		if st.Isolation != b.tx.isolation && st.Isolation != ReadCommitted {
			if b.tx.queried {
				return failed(CodeInTransaction)
			}
			b.tx.isolation = st.Isolation
		}
		b.block = true // within a transaction this is a warning
		return onward
	}}
}

// queries says whether a statement takes a snapshot.
func queries(statement Statement) bool {
	switch statement.(type) {
	case Begin, Commit, Rollback, PrepareTransaction, SetRole, LockTable, Listen:
		return false
	}
	return true
}

func (Commit) units() []unit {
	return []unit{func(_ *Server, b *backend, r *run) verdict {
		r.value = b.tx != nil
		if b.tx == nil {
			b.block, b.failed = false, false
			return onward
		}
		b.block = false
		r.ending = true
		return onward
	}}
}

func (Rollback) units() []unit {
	return []unit{func(s *Server, b *backend, _ *run) verdict {
		if b.tx != nil {
			s.abort(b.tx)
			b.tx = nil
			b.own = b.before
		}
		b.block, b.failed = false, false
		return onward
	}}
}

func (st Sleep) units() []unit { return []unit{pause(st.For), nothing} }

// nothing keeps a statement from ending while it waits.
func nothing(*Server, *backend, *run) verdict { return onward }

func pause(length time.Duration) unit {
	return func(_ *Server, b *backend, _ *run) verdict {
		if length > 0 {
			b.wait = &wait{timer: length}
		}
		return onward
	}
}

func (st SetRole) units() []unit {
	return []unit{func(s *Server, b *backend, _ *run) verdict {
		return failed(s.setRole(b, st.Role))
	}}
}

func (s *Server) setRole(b *backend, name string) Code {
	if name == "" {
		b.own = b.reset
		return OK
	}
	r, found := s.lookup(b, name)
	switch {
	case !found:
		return "22023"
	case r.oid != b.user && !s.cached(b).canSet(b.user, r.oid, s.grantOptions()):
		return CodeDenied
	}
	b.own = r.oid
	return OK
}

// Prepared is a statement on rows that the session has parsed before, as drivers do. Only the parser makes a session look at what has
// changed in the catalogs before the rights are looked at: in a transaction that has its locks already, a Prepared statement may
// still have what a REVOKE took, once.
type Prepared struct{ Statement Statement }

func (st Prepared) units() []unit { return st.Statement.units() }

// open locks a table for the length of the transaction. It is when a lock is new, and when a statement is parsed, that a backend looks at
// what has changed in the catalogs.
func (s *Server) open(b *backend, table string, mode lockMode) bool {
	tag := "table/" + table
	if !s.acquire(b, tag, mode) {
		return false
	}
	key := tag + number(uint64(mode))
	if _, prepared := b.run.statement().(Prepared); !prepared || !b.tx.knows(key) {
		b.seen = s.visible
	}
	if !b.tx.knows(key) {
		b.tx.known = append(b.tx.known, key)
	}
	return true
}

// begun opens a table, looks at the rights and takes the snapshot.
func begun(table string, mode lockMode, may func(Right) bool) unit {
	return func(s *Server, b *backend, r *run) verdict {
		if !s.open(b, table, mode) {
			return again
		}
		if !s.allows(b, table, may) {
			return failed(CodeDenied)
		}
		b.seen = s.visible
		r.snapshot = s.snapshot(b.tx)
		return onward
	}
}

func (s *Server) allows(b *backend, name string, may func(Right) bool) bool {
	c := s.cached(b)
	if c.superuser(b.own) {
		return true
	}
	for _, r := range s.table(name).rights {
		if may(r.Right) && c.hasPrivs(b.own, r.oid, s.grantOptions()) {
			return true
		}
	}
	return false
}

func (st LockTable) units() []unit {
	return []unit{func(s *Server, b *backend, _ *run) verdict {
		if !b.block && len(b.run.request) == 1 {
			return failed(CodeNoTransaction)
		}
		if !s.allows(b, st.Table, func(r Right) bool { return r.Update || r.Delete }) { // other than all else, before it waits
			return failed(CodeDenied)
		}
		if !s.open(b, st.Table, accessExclusive) {
			return again
		}
		return onward
	}}
}

func (st Advisory) units() []unit {
	return []unit{func(s *Server, b *backend, _ *run) verdict {
		tag := "advisory/" + number(st.Key)
		if !s.acquire(b, tag, exclusive) {
			return again
		}
		if st.Session {
			k := s.locks.get(tag)
			for i := range k.held {
				if k.held[i].owner == b.tx {
					k.held[i].session = b.pid
				}
			}
		}
		return onward
	}}
}
