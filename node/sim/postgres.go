package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// What the metastore is set up with.
const (
	group     = "airflow"
	workTable = "work"
	workRows  = 4
	pgName    = "pg" // in the network
	fencerPW  = "fencer"
)

// postgres is the metastore: the model of package metastore, its network, and what its clients have of it.
type postgres struct {
	c        *cluster
	w        *world
	timed    *metastore.Timed
	sessions map[metastore.PID]*session
	// life counts servers: sessions of one before are gone.
	life int
	// crashes counts those of all servers: a log may have lost its end with each.
	crashes int
	wake    *event
	// replicating: the standby's word on what it has is under way.
	replicating bool
	roles       map[string]uint64
	// filled is how long the log was when the world began.
	filled metastore.LSN
}

// dbError is what the server answered instead of a result.
type dbError struct{ code metastore.Code }

func (e *dbError) Error() string { return "metastore: " + string(e.code) }

// errConn is a connection that failed: what was under way may have been done or not.
var errConn = errors.New("connection to the metastore failed")

func newPostgres(c *cluster) *postgres {
	pg := &postgres{c: c, w: c.w, sessions: map[metastore.PID]*session{}, roles: map[string]uint64{}}
	cfg := metastore.Config{
		Version: c.plan.version, Password: "admin", Synchronous: c.plan.synchronous, MaxConnections: 90,
		Roles: []metastore.Role{
			{Name: group, Inherit: true}, {Name: metastore.Fencer, Inherit: true, CreateRole: true},
			{Name: "fencer_a", Login: true, Password: fencerPW}, {Name: "fencer_b", Login: true, Password: fencerPW},
		},
		Memberships: []metastore.Membership{
			{Group: group, Member: metastore.Fencer, Admin: true},
			{Group: metastore.SignalBackend, Member: metastore.Fencer, Inherit: true, Set: true},
			{Group: metastore.ReadAllStats, Member: metastore.Fencer, Inherit: true, Set: true},
			{Group: metastore.Fencer, Member: "fencer_a", Set: true}, {Group: metastore.Fencer, Member: "fencer_b", Set: true},
		},
		Tables: []metastore.Table{
			{Name: metastore.FenceTable, Rights: []metastore.Right{
				{Role: metastore.Fencer, Select: true, Update: true}, {Role: group, Select: true, Lock: true},
			}},
			{Name: workTable, Rights: []metastore.Right{{Role: group, Select: true, Insert: true, Update: true, Delete: true}}},
		},
	}
	for _, x := range c.regroup.changes {
		name := "fencer_" + x.fresh
		cfg.Roles = append(cfg.Roles, metastore.Role{Name: name, Login: true, Password: fencerPW})
		cfg.Memberships = append(cfg.Memberships, metastore.Membership{Group: metastore.Fencer, Member: name, Set: true})
	}
	pg.serve(metastore.New(cfg))
	pg.fill()
	return pg
}

// fill makes the rows, before anything begins.
func (pg *postgres) fill() {
	s := pg.timed.Server()
	settle := func() {
		for pids := s.Runnable(); len(pids) > 0; pids = s.Runnable() {
			s.Step(pids[0])
		}
		s.Replicated(s.LastLSN())
	}
	admin := s.Open(metastore.Login{Role: metastore.Bootstrap, Password: "admin"})
	settle()
	s.Send(admin, metastore.Request{metastore.Insert{Table: metastore.FenceTable, Row: metastore.Row{Key: jobName}}})
	settle()
	for i := range workRows {
		s.Send(admin, metastore.Request{metastore.Insert{Table: workTable, Row: metastore.Row{Key: workKey(i)}}})
		settle()
	}
	s.Hangup(admin)
	settle()
	pg.filled = s.LastLSN()
	s.Replies()
}

func workKey(i int) string { return "w" + strconv.Itoa(i) }

// serve makes a server the one that clients reach.
func (pg *postgres) serve(s *metastore.Server) {
	pg.life++
	pg.timed = metastore.NewTimed(s, chance{pg})
	pg.timed.Advance(pg.w.now)
}

// chance draws how long the server takes.
type chance struct{ pg *postgres }

// Delay implements metastore.Chance.
func (c chance) Delay(m metastore.Moment, _ metastore.PID) time.Duration {
	p, w := &c.pg.c.plan, c.pg.w
	switch {
	case m == metastore.MomentSignal && w.often(p.deaf):
		return w.span(0, 2*time.Second) // in a system call that cannot be interrupted
	case w.often(p.unitSlow):
		return w.span(0, 50*time.Millisecond)
	}
	return w.span(10*time.Microsecond, p.unitMost)
}

// Blind implements metastore.Chance.
func (c chance) Blind(metastore.PID) bool { return c.pg.w.often(c.pg.c.plan.blind) }

// do has something done to the server now, and takes in what comes of it.
func (pg *postgres) do(what func(*metastore.Server)) {
	pg.timed.Advance(pg.w.now)
	what(pg.timed.Server())
	pg.after()
}

// after passes on what clients were told, shows the oracle what was committed, and sees to it that the server goes on.
func (pg *postgres) after() {
	s := pg.timed.Server()
	for _, r := range s.Replies() {
		if to := pg.sessions[r.PID]; to != nil && to.life == pg.life {
			to.tell(r)
		}
	}
	pg.replicate()
	pg.c.oracle.look()
	at, some := pg.timed.Next()
	if pg.wake != nil && pg.wake.do != nil && some && pg.wake.at == at {
		return
	}
	pg.w.cancel(pg.wake)
	pg.wake = nil
	if some {
		pg.wake = pg.w.in(at-pg.w.now, nil, func() {
			pg.wake = nil
			pg.do(func(*metastore.Server) {})
		})
	}
}

// replicate lets the synchronous standby have the log, after a while.
func (pg *postgres) replicate() {
	s := pg.timed.Server()
	if !pg.c.plan.synchronous || pg.replicating || s.LastLSN() == 0 {
		return
	}
	upTo, life, crashes := s.LastLSN(), pg.life, pg.crashes
	if upTo <= pg.c.oracle.replicated {
		return
	}
	pg.replicating = true
	pg.w.in(pg.w.span(100*time.Microsecond, pg.c.plan.replicaMost), nil, func() {
		pg.replicating = false
		if life != pg.life || crashes != pg.crashes { // of a log that ends elsewhere now
			pg.do(func(*metastore.Server) {})
			return
		}
		pg.c.oracle.replicated = upTo
		pg.do(func(s *metastore.Server) { s.Replicated(upTo) })
	})
}

// crash kills the server; with lose, what was committed and not on its disk is gone.
func (pg *postgres) crash(lose bool) {
	pg.crashes++
	pg.do(func(s *metastore.Server) { s.Crash(lose) })
}

// epochOf reads the epoch off the name of a role; 0 = it is no epoch's.
func (pg *postgres) epochOf(role string) uint64 {
	if epoch, known := pg.roles[role]; known {
		return epoch
	}
	epoch := uint64(0)
	if digits, ok := strings.CutPrefix(role, metastore.RoleName(group, jobName, 0)[:len(metastore.RoleName(group, jobName, 0))-1]); ok {
		epoch, _ = strconv.ParseUint(digits, 10, 64) // what is no number is no epoch's
	}
	pg.roles[role] = epoch
	return epoch
}

func (pg *postgres) reach(h *host) bool {
	return pg.c.net.open(h.name, pgName) && pg.c.net.open(pgName, h.name)
}

// session is a client's end of a connection.
type session struct {
	pg   *postgres
	pid  metastore.PID
	life int
	who  *actor
	from *host
	// answers are replies that came, by request.
	answers map[int]metastore.Reply
	// epoch is that of its role; 0 = it is no epoch's.
	epoch   uint64
	notices int
	// closed: nothing will come any more.
	closed bool
	code   metastore.Code
	// there and back: in one connection nothing overtakes.
	there, back instant
	sent        int
}

// login opens a session. The calling task waits.
func (pg *postgres) login(ctx context.Context, from *host, l metastore.Login) (*session, error) {
	w := pg.w
	if !pg.reach(from) {
		w.sleep(ctx, dialTimeout)
		return nil, errConn
	}
	w.sleep(ctx, pg.c.net.delay()+pg.c.net.delay())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !pg.timed.Server().Up() {
		return nil, errConn
	}
	s := &session{pg: pg, life: pg.life, who: w.running.who, from: from, answers: map[int]metastore.Reply{}, epoch: pg.epochOf(l.Role)}
	pg.do(func(server *metastore.Server) {
		s.pid = server.Open(l)
		pg.sessions[s.pid] = s
	})
	r, err := s.await(ctx, 0, l.PostAuthDelay+dialTimeout)
	if err == nil && r.Code != metastore.OK {
		err = &dbError{r.Code}
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// ask sends statements, as one request, and waits for the answer to the last.
func (s *session) ask(ctx context.Context, statements ...metastore.Statement) (any, error) {
	return s.answer(ctx, s.send(statements...))
}

// send sends statements and waits for nothing.
func (s *session) send(statements ...metastore.Statement) (number int) {
	s.sent++
	s.carry(func() {
		s.pg.do(func(server *metastore.Server) {
			if server.Send(s.pid, statements) == 0 { // a reset: there is no such session
				s.tell(metastore.Reply{PID: s.pid, Code: metastore.CodeClosed, Closed: true})
			}
		})
	})
	return s.sent
}

// answer waits for the answer to a request.
func (s *session) answer(ctx context.Context, number int) (any, error) {
	r, err := s.await(ctx, number, 0)
	if err == nil && r.Code != metastore.OK {
		err = &dbError{r.Code}
	}
	return r.Value, err
}

// carry brings something to the server, over a way that may be cut for a while: the kernel tries again until the connection
// is given up, whatever its process does meanwhile.
func (s *session) carry(do func()) {
	w, n := s.pg.w, s.pg.c.net
	at := max(w.now+n.delay(), s.there)
	var try func()
	try = func() {
		switch {
		case s.life != s.pg.life || (s.closed && s.code == "given up"):
		case n.open(s.from.name, pgName) && !s.from.dark:
			do()
		case w.now-at < brokenAfter:
			s.there = max(s.there, w.now+100*time.Millisecond)
			w.in(100*time.Millisecond, nil, try)
		default:
			s.giveUp()
		}
	}
	s.there = at
	w.in(at-w.now, nil, try)
}

// tell brings a reply to the client.
func (s *session) tell(r metastore.Reply) {
	w, n := s.pg.w, s.pg.c.net
	at := max(w.now+n.delay(), s.back)
	var try func()
	try = func() {
		switch {
		case s.closed:
		case n.open(pgName, s.from.name):
			w.in(0, s.who, func() { s.hear(r) })
		case w.now-at < brokenAfter:
			s.back = max(s.back, w.now+100*time.Millisecond)
			w.in(100*time.Millisecond, nil, try)
		default:
			s.giveUp()
		}
	}
	s.back = at
	w.in(at-w.now, nil, try)
}

func (s *session) hear(r metastore.Reply) {
	s.pg.c.oracle.turnedAway(s.epoch, r.Code)
	switch {
	case r.Notice != "":
		s.notices++
	case r.Closed:
		s.closed, s.code = true, r.Code
	default:
		s.answers[r.Request] = r
	}
}

// await waits for a reply. A slow server is not a dead one; one that does not confirm anything for brokenAfter is. within
// bounds the wait; 0 = it does not.
func (s *session) await(ctx context.Context, number int, within time.Duration) (metastore.Reply, error) {
	w := s.pg.w
	began, cutAt := w.now, instant(0)
	for {
		due := false
		e := w.in(200*time.Millisecond, w.running.who, func() { due = true })
		w.wait(func() bool {
			_, there := s.answers[number]
			return there || s.closed || due || ctx.Err() != nil
		})
		w.cancel(e)
		if r, there := s.answers[number]; there {
			delete(s.answers, number)
			return r, nil
		}
		switch {
		case s.closed && (s.code == metastore.CodeClosed || s.code == "given up"):
			return metastore.Reply{}, errConn
		case s.closed:
			return metastore.Reply{}, &dbError{s.code}
		case ctx.Err() != nil:
			s.giveUp() // as pgx does
			return metastore.Reply{}, ctx.Err()
		case s.life != s.pg.life || (within > 0 && w.now-began > within):
			s.giveUp()
			return metastore.Reply{}, errConn
		case s.pg.reach(s.from):
			cutAt = 0
		case cutAt == 0:
			cutAt = w.now
		case w.now-cutAt > brokenAfter:
			s.giveUp()
			return metastore.Reply{}, errConn
		}
	}
}

// giveUp drops the client's end. The server hears of it at once if it can, else after a while.
func (s *session) giveUp() {
	if s.closed {
		return
	}
	s.closed, s.code = true, "given up"
	s.hangUp()
}

// close ends the session in order.
func (s *session) close() {
	if s == nil || s.closed || s.who.dead {
		return
	}
	s.closed, s.code = true, metastore.CodeClosed
	s.hangUp()
}

// hangUp lets the server know that the client is gone.
func (s *session) hangUp() {
	w := s.pg.w
	after := s.pg.c.net.delay()
	if !s.pg.reach(s.from) || s.from.dark {
		after = w.span(2*time.Second, 20*time.Second)
	}
	broken := w.often(0.5)
	w.in(max(after, s.there-w.now), nil, func() {
		if s.life != s.pg.life {
			return
		}
		s.pg.do(func(server *metastore.Server) {
			if broken {
				server.Break(s.pid)
			} else {
				server.Hangup(s.pid)
			}
		})
		delete(s.pg.sessions, s.pid)
	})
}

// hangUpAll is what the kernel does when a process ends.
func (pg *postgres) hangUpAll(who *actor) {
	var pids []metastore.PID
	for pid, s := range pg.sessions {
		if s.who == who {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		if s := pg.sessions[pid]; !s.closed {
			s.closed, s.code = true, metastore.CodeClosed
			s.hangUp()
		}
	}
}

// codeOf is the server's code of an error; "" when it did not come from the server.
func codeOf(err error) metastore.Code {
	var e *dbError
	if errors.As(err, &e) {
		return e.code
	}
	return ""
}

func (pg *postgres) String() string { return fmt.Sprintf("life %d\n%s", pg.life, pg.timed.Server()) }
