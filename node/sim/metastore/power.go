package metastore

import "slices"

// Stop begins a fast shutdown: every session is ended, nobody gets in. The server is down once the last has gone.
func (s *Server) Stop() {
	if s.down != running {
		return
	}
	s.down = stopping
	for _, b := range s.backends {
		b.term = true
	}
	if len(s.backends) == 0 {
		s.down = stopped
	}
}

// Crash kills every process of the server. Clients hear CodeClosed. What was committed stays, but for commits of Asynchronous
// sessions that no later commit carried to the disk, if lose is set. Prepared transactions stay.
func (s *Server) Crash(lose bool) {
	s.down = stopped
	for _, b := range s.backends {
		s.replies = append(s.replies, Reply{PID: b.pid, Request: b.under(), Code: CodeClosed, Closed: true})
	}
	end := s.LastLSN()
	for lose && end > 0 && !s.log[end-1].flushed {
		end--
	}
	s.redo(end)
}

// under is the number of the request that the backend works on, or else has not read.
func (b *backend) under() int {
	switch {
	case b.run != nil:
		return b.run.number
	case len(b.inbox) > 0:
		return b.requests - len(b.inbox) + 1
	}
	return 0
}

// Start starts a server that is down.
func (s *Server) Start() { s.down = running }

// Promote returns the server that a standby which has the log up to there becomes: a new timeline, without sessions. The old
// server is untouched; that it goes on, if it does, is the caller's choice.
func (s *Server) Promote(upTo LSN) *Server {
	standby := New(s.config)
	standby.log = append([]record(nil), s.log[:min(upTo, s.LastLSN())]...)
	standby.nextPID, standby.nextOID, standby.nextTx, standby.nextRow = s.nextPID+1000, s.nextOID, s.nextTx, s.nextRow
	standby.timeline = s.timeline + 1
	standby.redo(standby.LastLSN())
	return standby
}

// RestoreRows puts the tables back to what they were at a place in the log, as a restore of a dump of the database does. Roles belong to
// the server and stay as they are. No transaction may be open.
func (s *Server) RestoreRows(at LSN) {
	for _, t := range s.tables {
		t.rows = nil
	}
	s.visible++
	for _, r := range s.log[:min(at, s.LastLSN())] {
		s.redoRows(r)
	}
	restored := record{kind: restoreRecord, flushed: true}
	restored.LSN = s.LastLSN() + 1
	for _, t := range s.tables {
		for _, row := range s.Rows(t.name) {
			restored.Rows = append(restored.Rows, Written{Table: t.name, Row: row})
		}
	}
	s.log = append(s.log, restored)
}

// redo makes the state of the server from its log alone, up to there.
func (s *Server) redo(upTo LSN) {
	first := s.catalogs[0]
	s.catalogs = []catalogAt{{catalog: first.catalog}}
	s.backends, s.prepared, s.locks = nil, nil, locks{}
	s.log, s.replicated, s.visible = s.log[:upTo], min(s.replicated, upTo), 0
	s.touched = map[string]seq{}
	for _, t := range s.tables {
		t.rows = nil
	}
	for i := range s.log {
		s.log[i].flushed = true
		s.visible++
		s.redoRows(s.log[i])
		if edits := s.log[i].edits; len(edits) > 0 && s.log[i].kind == commitRecord {
			s.catalogs = append(s.catalogs, catalogAt{s.visible, s.latest().apply(edits)})
		}
	}
	for _, r := range s.log {
		if r.kind == prepareRecord && !slices.ContainsFunc(s.log, func(o record) bool { return o.kind != prepareRecord && o.tx == r.tx }) {
			s.reinstate(r)
		}
	}
}

func (s *Server) redoRows(r record) {
	switch r.kind {
	case restoreRecord:
		for _, t := range s.tables {
			t.rows = nil
		}
	case commitRecord:
	default:
		return
	}
	for _, w := range r.Rows {
		s.redoRow(w)
	}
}

func (s *Server) redoRow(w Written) {
	row := s.living(w.Table, w.Row.Key)
	row.versions = append(row.versions, version{s.visible, w.Row, w.Deleted})
}

// living is the row with the key that is not deleted, or a new one.
func (s *Server) living(name, key string) *row {
	t := s.table(name)
	for _, candidate := range t.all(key) {
		if len(candidate.versions) > 0 && !candidate.newest().deleted {
			return candidate
		}
	}
	s.nextRow++
	made := newRow(name, key, s.nextRow)
	t.add(made)
	return made
}
