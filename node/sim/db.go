package sim

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of the metastore, by what a client can do about them.
var (
	errConn   = errors.New("connection to the metastore failed")
	errDenied = errors.New("42501: permission denied")
	errLogin  = errors.New("28000: role is not permitted to log in")
	errKilled = errors.New("57P01: terminated by an administrator")
)

type fenceRow struct {
	epoch       uint64
	node, token string
}

type dbRole struct {
	epoch  uint64
	login  bool
	member bool
}

type commit struct{ epoch uint64 }

// server is a small stand-in for the model Postgres.
type server struct {
	w        *world
	c        *cluster
	row      fenceRow
	roles    map[uint64]*dbRole
	sessions []*session
	up       bool
	pids     int
}

// session is one connection.
type session struct {
	sv      *server
	pid     int
	epoch   uint64 // 0 = a fencer
	who     *actor
	from    *host
	setRole bool
	killed  bool
	gone    bool // the backend is no more
	busy    bool
	inTx    bool
	dirty   bool
}

func newServer(c *cluster) *server {
	return &server{w: c.w, c: c, roles: map[uint64]*dbRole{}, up: true}
}

// connect logs in. A fencer's epoch is 0.
func (sv *server) connect(ctx context.Context, from *host, epoch uint64, setRole bool) (*session, error) {
	w := sv.w
	who := w.running.who
	var s *session
	var err error
	done := false
	if !sv.reach(from) || !w.sleep(ctx, sv.c.net.delay()) {
		w.sleep(ctx, dialTimeout)
		return nil, errConn
	}
	w.in(w.span(time.Millisecond, 8*time.Millisecond), nil, func() {
		switch r := sv.roles[epoch]; {
		case !sv.up:
			err = errConn
		case epoch != 0 && (r == nil || !r.login):
			err = errLogin
		default:
			sv.pids++
			s = &session{sv: sv, pid: sv.pids, epoch: epoch, who: who, from: from}
			if setRole && r != nil && r.member {
				s.setRole = true
			}
			sv.sessions = append(sv.sessions, s)
		}
		w.in(sv.c.net.delay(), who, func() { done = true })
	})
	late := w.now + dialTimeout
	for !done {
		if !w.sleep(ctx, 2*time.Millisecond) || w.now > late {
			return nil, errConn
		}
	}
	return s, err
}

func (sv *server) reach(h *host) bool {
	return sv.c.net.open(h.name, "pg") && sv.c.net.open("pg", h.name)
}

// call runs a statement on the server: first arrives, then, after took, body.
func (s *session) call(ctx context.Context, took time.Duration, body func() error) error {
	w, sv := s.sv.w, s.sv
	who := w.running.who
	var err error
	done := false
	finish := func(e error) {
		err = e
		w.in(sv.c.net.delay(), who, func() { done = sv.reach(s.from) })
	}
	if s.gone {
		return errConn
	}
	w.in(sv.c.net.delay(), nil, func() {
		switch {
		case !sv.reach(s.from):
			return
		case s.killed || s.gone:
			s.leave()
			finish(errKilled)
			return
		}
		s.busy = true
		w.in(took, nil, func() {
			s.busy = false
			if s.gone {
				finish(errConn)
				return
			}
			if s.killed && w.often(0.7) {
				s.leave()
				finish(errKilled)
				return
			}
			e := body()
			if s.killed {
				s.leave()
			}
			finish(e)
		})
	})
	late := w.now + 2*time.Second
	for !done {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.sleep(ctx, time.Millisecond)
		if w.now > late && !sv.reach(s.from) {
			s.gone = true
			return errConn
		}
	}
	return err
}

func (s *session) leave() {
	s.gone = true
	for i, other := range s.sv.sessions {
		if other == s {
			s.sv.sessions = append(s.sv.sessions[:i:i], s.sv.sessions[i+1:]...)
			return
		}
	}
}

func (s *session) close() {
	if s.sv.w.running != nil && s.sv.w.running.who.dead {
		return
	}
	s.sv.w.in(s.sv.c.net.delay(), nil, s.leave)
}

// allowed is the check that every statement on the job's tables begins with.
func (s *session) allowed() error {
	r := s.sv.roles[s.epoch]
	if s.setRole || (r != nil && r.member) {
		return nil
	}
	return errDenied
}

// write does one write in the open transaction, or in one of its own.
func (s *session) write(ctx context.Context, took time.Duration) error {
	checked := false
	return s.call(ctx, took, func() error {
		if err := s.allowed(); err != nil {
			return err
		}
		checked = true
		s.dirty = checked
		if !s.inTx {
			return s.commitNow()
		}
		return nil
	})
}

func (s *session) commitNow() error {
	s.inTx = false
	if s.dirty {
		s.dirty = false
		s.sv.c.oracle.committed(s.epoch)
	}
	return nil
}

// take is duoflow.take (airflowctl/fence/functions.sql), with the outcomes of its own.
func (s *session) take(ctx context.Context, epoch uint64, node, token string) (outcome string, row fenceRow, highest uint64, err error) {
	sv := s.sv
	err = s.call(ctx, sv.w.span(time.Millisecond, 8*time.Millisecond), func() error {
		for e := range sv.roles {
			highest = max(highest, e)
		}
		row = sv.row
		switch {
		case sv.row.epoch == epoch && sv.row.token == token && sv.row.node == node:
			outcome = "done"
			if r := sv.roles[epoch]; r == nil || !r.login || !r.member {
				outcome = "released"
			}
		case sv.row.epoch >= epoch:
			outcome = "stale"
		case highest >= epoch:
			outcome = "ahead"
		default:
			sv.row = fenceRow{epoch, node, token}
			for _, r := range sv.roles {
				r.member, r.login = false, false
			}
			sv.roles[epoch] = &dbRole{epoch: epoch, login: true, member: true}
			sv.c.oracle.taken(epoch, node, token)
			outcome, highest, row = "taken", epoch, sv.row
			sv.notify()
		}
		return nil
	})
	return outcome, row, highest, err
}

// notify tells the watches of everybody.
func (sv *server) notify() {
	for _, h := range sv.c.hosts {
		if d := h.daemon; d != nil && !d.dead && d.job != nil && sv.reach(h) {
			sv.w.in(sv.c.net.delay(), d.actor, func() { d.job.noticed = true })
		}
	}
}

func (s *session) drain(ctx context.Context, epoch uint64, token string) (holds bool, remain int, err error) {
	sv := s.sv
	err = s.call(ctx, sv.w.span(time.Millisecond, 4*time.Millisecond), func() error {
		holds = sv.row.epoch == epoch && sv.row.token == token
		if !holds {
			return nil
		}
		for _, other := range append([]*session(nil), sv.sessions...) {
			if other.epoch != 0 && other.epoch < epoch {
				remain++
				other.killed = true
				if !other.busy {
					sv.w.in(sv.w.span(0, 5*time.Millisecond), nil, func() {
						if !other.busy {
							other.leave()
						}
					})
				}
			}
		}
		return nil
	})
	return holds, remain, err
}

func (s *session) release(ctx context.Context, epoch uint64, token string) (held bool, err error) {
	sv := s.sv
	err = s.call(ctx, time.Millisecond, func() error {
		if held = sv.row.epoch == epoch && sv.row.token == token; held {
			for _, r := range sv.roles {
				r.member, r.login = false, false
			}
			sv.notify()
		}
		return nil
	})
	return held, err
}

func (s *session) probe(ctx context.Context) (row fenceRow, highest uint64, err error) {
	sv := s.sv
	err = s.call(ctx, 500*time.Microsecond, func() error {
		row = sv.row
		for e := range sv.roles {
			highest = max(highest, e)
		}
		return nil
	})
	return row, highest, err
}

func (r fenceRow) String() string { return fmt.Sprintf("%d of %s", r.epoch, r.node) }

// hangup closes the connections of a process that is no more.
func (sv *server) hangup(p *process) {
	for _, s := range append([]*session(nil), sv.sessions...) {
		if s.who == p.actor {
			s := s
			sv.w.in(sv.c.net.delay(), nil, func() {
				if !s.busy {
					s.leave()
				} else {
					s.killed = true // it notices at the end of the statement, or never
				}
			})
		}
	}
}
