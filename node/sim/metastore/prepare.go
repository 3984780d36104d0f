package metastore

import "slices"

// PrepareTransaction is PREPARE TRANSACTION: the transaction leaves its session and stays, over a crash too, until it is ended by its
// name. Its locks on rows that it did not change are lost in a crash here, which they are not in Postgres.
type PrepareTransaction struct{ GID string }

// CommitPrepared is COMMIT PREPARED, by the owner or a superuser.
type CommitPrepared struct{ GID string }

// RollbackPrepared is ROLLBACK PREPARED, by the owner or a superuser.
type RollbackPrepared struct{ GID string }

func (st PrepareTransaction) units() []unit {
	return []unit{func(s *Server, b *backend, r *run) verdict {
		switch t := b.tx; {
		case t == nil:
			b.block, b.failed, r.value = false, false, false
			return onward
		case !b.block:
			r.value = false // a warning
			return onward
		case slices.ContainsFunc(s.prepared, func(x *tx) bool { return x.gid == st.GID }):
			return failed(CodeRoleExists) // 42710: duplicate object
		default:
			t.gid, t.own, t.role, t.as = st.GID, b.own, s.latest().name(b.user), s.latest().name(b.own)
			t.parted = s.write(t, prepareRecord, true)
			t.pid = 0
			at, _ := slices.BinarySearchFunc(s.prepared, t, byGID)
			s.prepared = slices.Insert(s.prepared, at, t)
			b.tx, b.block, r.value = nil, false, true
			return onward
		}
	}}
}

func byGID(a, b *tx) int {
	switch {
	case a.gid < b.gid:
		return -1
	case a.gid > b.gid:
		return 1
	}
	return 0
}

func (st CommitPrepared) units() []unit {
	return []unit{func(s *Server, b *backend, _ *run) verdict {
		t, code := s.takeUp(b, st.GID)
		if code == OK {
			s.write(t, commitRecord, true)
			s.show(t)
		}
		return failed(code)
	}}
}

func (st RollbackPrepared) units() []unit {
	return []unit{func(s *Server, b *backend, _ *run) verdict {
		t, code := s.takeUp(b, st.GID)
		if code == OK {
			s.write(t, rollbackRecord, true)
			s.abort(t)
		}
		return failed(code)
	}}
}

// takeUp finds a prepared transaction that the session may end, and takes it out of the list.
func (s *Server) takeUp(b *backend, gid string) (*tx, Code) {
	at := slices.IndexFunc(s.prepared, func(x *tx) bool { return x.gid == gid })
	switch {
	case b.block:
		return nil, CodeInTransaction
	case at < 0:
		return nil, CodeNoSuchGID
	}
	t := s.prepared[at]
	if b.own != t.own && !s.cached(b).superuser(b.own) {
		return nil, CodeDenied
	}
	s.prepared = slices.Delete(s.prepared, at, at+1)
	return t, OK
}

// Prepared lists the names of the prepared transactions.
func (s *Server) Prepared() []string {
	var out []string
	for _, t := range s.prepared {
		out = append(out, t.gid)
	}
	return out
}

// reinstate brings back a prepared transaction that the log has no end of.
func (s *Server) reinstate(r record) {
	t := &tx{id: r.tx.id, edits: r.edits, keys: r.tx.keys, role: r.Role, as: r.As, own: r.tx.own, gid: r.tx.gid, parted: r.LSN}
	s.locks.get(t.tag()).held = []holding{{owner: t, mode: exclusive}}
	for _, key := range t.keys {
		s.locks.get("catalog/" + key).held = []holding{{owner: t, mode: exclusive}}
	}
	for _, w := range r.Rows {
		tag := s.locks.get("table/" + w.Table)
		tag.held = append(tag.held, holding{owner: t, mode: rowExclusive})
		row := s.living(w.Table, w.Row.Key)
		row.lock(t, true)
		row.write(t, w.Row, w.Deleted)
	}
	s.prepared = append(s.prepared, t)
	slices.SortFunc(s.prepared, byGID)
}
