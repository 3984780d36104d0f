package metastore

func (st Insert) units() []unit {
	return []unit{begun(st.Table, rowExclusive, func(r Right) bool { return r.Insert }), pause(st.Pause), st.put}
}

// put makes the row, unless its key is taken; who may be about to take or free it is waited for.
func (st Insert) put(s *Server, b *backend, r *run) verdict {
	t := s.table(st.Table)
	for _, other := range t.all(st.Row.Key) {
		if other.writer != nil && other.writer != b.tx {
			if !s.await(b, other.writer.tag()) {
				return again
			}
		}
		if _, there := other.at(b.tx, s.visible); there {
			return failed(CodeUnique)
		}
	}
	s.nextRow++
	made := newRow(st.Table, st.Row.Key, s.nextRow)
	made.lock(b.tx, true)
	made.write(b.tx, st.Row, false)
	t.add(made)
	r.value = 1
	return onward
}

func (st Update) units() []unit {
	return []unit{
		begun(st.Table, rowExclusive, func(r Right) bool { return r.Update }), pause(st.Pause),
		find(st.Table, st.Row.Key, st.matches), lockFound(true, st.matches),
		func(_ *Server, b *backend, r *run) verdict { return change(b, r, st.Row, false) },
	}
}

func (st Update) matches(row Row) bool { return !st.Below || row.Epoch < st.Row.Epoch }

func (st Delete) units() []unit {
	return []unit{
		begun(st.Table, rowExclusive, func(r Right) bool { return r.Delete }),
		find(st.Table, st.Key, anyRow), lockFound(true, anyRow),
		func(_ *Server, b *backend, r *run) verdict { return change(b, r, Row{Key: st.Key}, true) },
	}
}

func anyRow(Row) bool { return true }

// find looks for the row in the snapshot.
func find(table, key string, matches func(Row) bool) unit {
	return func(s *Server, b *backend, r *run) verdict {
		r.row = nil
		for _, candidate := range s.table(table).all(key) {
			if row, there := candidate.at(b.tx, r.snapshot); there && matches(row) {
				r.row = candidate
			}
		}
		return onward
	}
}

// lockFound locks the row that was found. If it has changed meanwhile READ COMMITTED looks at it anew.
func lockFound(exclusively bool, matches func(Row) bool) unit {
	return func(s *Server, b *backend, r *run) verdict {
		if r.row == nil {
			return onward
		}
		if !s.lockRow(b, r, exclusively) {
			return again
		}
		if r.row.writer == b.tx {
			return onward
		}
		now := r.row.newest()
		switch {
		case now.at <= r.snapshot:
		case b.tx.isolation == RepeatableRead:
			return failed(CodeSerialization)
		case now.deleted || !matches(now.row):
			r.row = nil
		}
		return onward
	}
}

func change(b *backend, r *run, next Row, deleted bool) verdict {
	r.value = 0
	if r.row != nil {
		r.row.write(b.tx, next, deleted)
		r.value = 1
	}
	return onward
}

// lockRow takes a lock on the row of the run, as heap_lock_tuple does: whoever finds another in its way queues up on the row's version
// and, once first there, waits for the other transaction.
func (s *Server) lockRow(b *backend, r *run, exclusively bool) bool {
	row, mode := r.row, rowShare
	if exclusively {
		mode = exclusive
	}
	for {
		tag := "row/" + row.table + "/" + number(row.id) + "/" + number(uint64(len(row.versions)))
		if r.heavy != "" && r.heavy != tag {
			s.releaseHeavy(b, r)
			return false // others may overtake now
		}
		other := row.inTheWay(b.tx, exclusively)
		if row.lockedBy(b.tx, exclusively) || other == nil {
			row.lock(b.tx, exclusively)
			s.releaseHeavy(b, r)
			return true
		}
		if !row.lockedBy(b.tx, false) {
			r.heavy = tag
			if !s.acquire(b, tag, mode) {
				return false
			}
		}
		if !s.await(b, other.tag()) {
			return false
		}
	}
}

func (s *Server) releaseHeavy(b *backend, r *run) {
	if r.heavy != "" {
		s.release(r.heavy, func(h holding) bool { return h.owner == b.tx })
		r.heavy = ""
	}
}

func (st Select) units() []unit {
	start := begun(st.Table, accessShare, func(r Right) bool { return r.Select })
	if st.Lock == NoLock {
		return []unit{start, func(s *Server, b *backend, r *run) verdict {
			r.value = s.read(b, st.Table, st.Key, r.snapshot)
			return onward
		}}
	}
	// Two looks at the rights: SELECT, and any UPDATE.
	return []unit{
		begun(st.Table, rowShare, func(r Right) bool { return r.Select && (r.Update || r.Lock) }),
		find(st.Table, st.Key, anyRow), lockFound(st.Lock == ForUpdate, anyRow),
		func(_ *Server, b *backend, r *run) verdict {
			r.value = found(b, r)
			return onward
		},
	}
}

// found is the row of the run as it is now that it is locked.
func found(b *backend, r *run) []Row {
	switch {
	case r.row == nil:
		return nil
	case r.row.writer == b.tx:
		return []Row{r.row.next}
	}
	return []Row{r.row.newest().row}
}

func (s *Server) read(b *backend, table, key string, snapshot seq) []Row {
	var out []Row
	for _, r := range s.table(table).all(key) {
		if row, there := r.at(b.tx, snapshot); there {
			out = append(out, row)
		}
	}
	return out
}
