package metastore

import (
	"slices"
	"time"
)

// Code is an SQLSTATE; "" is success.
type Code string

// The codes that the model answers with.
const (
	OK                Code = ""
	CodeDenied        Code = "42501" // insufficient privilege
	CodeNoLogin       Code = "28000" // role is not permitted to log in
	CodePassword      Code = "28P01"
	CodeNoRole        Code = "42704"
	CodeRoleExists    Code = "42710"
	CodeUnique        Code = "23505"
	CodeTerminated    Code = "57P01"
	CodeCrashed       Code = "57P02"
	CodeStarting      Code = "57P03" // the server starts, or stops
	CodeCancelled     Code = "57014"
	CodeLockTimeout   Code = "55P03"
	CodeDeadlock      Code = "40P01"
	CodeSerialization Code = "40001"
	CodeAborted       Code = "25P02" // the transaction has failed before
	CodeTooMany       Code = "53300"
	CodeInternal      Code = "XX000" // another transaction changed the same role or membership
	CodeDependent     Code = "2BP01" // something depends on the role, or on the grant
	CodeInUse         Code = "55006" // the role is the current user
	CodeCircular      Code = "0LP01" // invalid grant
	CodeInTransaction Code = "25001"
	CodeNoTransaction Code = "25P01"
	CodeNoSuchGID     Code = "42704"
	CodeIsolation     Code = "DF001" // duoflow.take wants READ COMMITTED
	CodeNoRow         Code = "DF002" // no fence row
	CodeStillMember   Code = "DF003" // REVOKE did nothing
	CodeClosed        Code = "closed"
)

// Login is what a client brings.
type Login struct {
	Role, Password string
	Application    string
	As             string        // SET ROLE in the options, done at the login; "" = none
	PostAuthDelay  time.Duration // between authentication and the list of sessions
	LockTimeout    time.Duration // 0 = none
	Asynchronous   bool          // synchronous_commit = off
	Slow           bool          // the client's part of the authentication comes by Answer
}

// Request is one message of a client: statements that are one transaction, unless they say otherwise.
type Request []Statement

// Reply is what a client hears. Whether it arrives is the caller's matter.
type Reply struct {
	PID     PID
	Request int  // the session's, from 1; 0 = the login, or nothing was asked. Later ones get no answer once it is Closed
	Code    Code // of the login or the request
	Value   any  // of the last statement: see there
	Notice  string
	Closed  bool // the session is over
}

type phase int

const (
	arriving phase = iota
	authenticating
	checking
	entering
	delayed
	listing
	ready
)

// wait is what a backend waits for.
type wait struct {
	lock    string        // a lock
	passing bool          // which it wants to see free, not to have
	timer   time.Duration // a length of time, or how long the lock is waited for; 0 = none
	client  bool          // the client's part of the authentication
	standby LSN           // the standby has this record
}

// backend serves one client.
type backend struct {
	pid        PID
	login      Login
	phase      phase
	verifier   string // read when the authentication began
	user       OID    // of the session
	own        OID    // it acts as
	reset      OID    // RESET ROLE makes it act as: what the login's options said
	before     OID    // it acted as when the transaction began
	seen       seq    // up to where its caches know the catalog
	inbox      []Request
	requests   int
	eof        bool
	lost       bool // the connection is known to be broken
	frozen     bool
	term       bool
	cancel     bool
	block      bool // between BEGIN and the end
	failed     bool // and the transaction is aborted
	deadlocked bool // the lock that it wants can never come
	listens    []string
	tx         *tx
	run        *run
	wait       *wait
}

// Open lets a client's connection begin. The session is there when a Reply to request 0 says so.
func (s *Server) Open(login Login) PID {
	s.nextPID++
	s.backends = append(s.backends, &backend{pid: s.nextPID, login: login})
	return s.nextPID
}

// Answer is the client's part of an authentication that is Slow.
func (s *Server) Answer(pid PID) {
	if b := s.backend(pid); b != nil && b.wait != nil && b.wait.client {
		b.wait = nil
	}
}

// Send puts a request where the backend will read it. It returns the request's number, 0 when there is no such session.
func (s *Server) Send(pid PID, request Request) int {
	b := s.backend(pid)
	if b == nil || b.eof {
		return 0
	}
	b.requests++
	b.inbox = append(b.inbox, request)
	return b.requests
}

// Hangup closes the client's end. The backend notices when it has done all that was sent before.
func (s *Server) Hangup(pid PID) {
	if b := s.backend(pid); b != nil {
		b.eof = true
	}
}

// Break is a connection that is reset: the backend notices at its next look for interrupts. A connection that is lost
// without a word is no call at all.
func (s *Server) Break(pid PID) {
	if b := s.backend(pid); b != nil {
		b.eof, b.lost = true, true
	}
}

// Freeze stops a backend, as SIGSTOP does, until Thaw.
func (s *Server) Freeze(pid PID) {
	if b := s.backend(pid); b != nil {
		b.frozen = true
	}
}

// Thaw undoes Freeze.
func (s *Server) Thaw(pid PID) {
	if b := s.backend(pid); b != nil {
		b.frozen = false
	}
}

// Runnable lists the backends that have something to do, by PID.
func (s *Server) Runnable() []PID {
	var out []PID
	for _, b := range s.backends {
		if b.runnable() {
			out = append(out, b.pid)
		}
	}
	return out
}

func (b *backend) runnable() bool {
	switch {
	case b.frozen:
		return false
	case b.term, b.lost, b.cancel && b.run != nil:
		return true
	case b.wait != nil:
		return b.wait.client && b.eof
	}
	return b.phase < ready || b.run != nil || len(b.inbox) > 0 || b.eof
}

// Timer says how long the backend's present wait may last before Expire. Zero: it has no end of its own.
func (s *Server) Timer(pid PID) time.Duration {
	if b := s.backend(pid); b != nil && b.wait != nil {
		return b.wait.timer
	}
	return 0
}

// Expire says that the length of the backend's wait is over: a pause ends, a wait for a lock fails with CodeLockTimeout.
func (s *Server) Expire(pid PID) {
	b := s.backend(pid)
	switch {
	case b == nil || b.wait == nil || b.wait.timer == 0:
	case b.wait.lock != "":
		s.giveUp(b)
		s.fail(b, CodeLockTimeout)
	default:
		b.wait = nil
	}
}

// Step lets a backend do one unit of work. It looks for interrupts first: a signal that was sent has its effect.
func (s *Server) Step(pid PID) { s.step(pid, true) }

// StepBlind is Step without the look for interrupts, for a backend that works: a signal that was sent is noticed at a later step.
// A backend that waits or is idle notices all the same.
func (s *Server) StepBlind(pid PID) { s.step(pid, false) }

func (s *Server) step(pid PID, looks bool) {
	b := s.backend(pid)
	if b == nil || !b.runnable() {
		return
	}
	if looks || b.wait != nil || b.run == nil {
		if s.interrupted(b) {
			return
		}
	}
	switch {
	case b.wait != nil: // for the client, which has gone
		s.exit(b, CodeClosed)
	case b.phase < ready:
		s.enter(b)
	case b.run != nil:
		s.work(b)
	case len(b.inbox) > 0:
		request := b.inbox[0]
		b.inbox = b.inbox[1:]
		b.run = &run{request: request, number: b.requests - len(b.inbox)}
	default:
		s.exit(b, CodeClosed)
	}
}

// interrupted deals with the signals that a backend has got.
func (s *Server) interrupted(b *backend) bool {
	committing := b.wait != nil && b.wait.standby > 0
	switch {
	case (b.term || b.lost || b.cancel) && committing:
		s.finish(b) // "canceling the wait for synchronous replication": it is committed here
		b.cancel = false
		return true
	case b.term && b.phase <= checking:
		s.exit(b, CodeClosed) // who is not known yet is told nothing
		return true
	case b.term:
		s.exit(b, CodeTerminated)
		return true
	case b.lost && (b.run != nil || len(b.inbox) == 0):
		s.exit(b, CodeClosed)
		return true
	case b.cancel && b.run != nil:
		s.giveUp(b)
		s.fail(b, CodeCancelled)
		return true
	}
	b.cancel = false
	return false
}

// enter goes on with a login.
func (s *Server) enter(b *backend) {
	b.phase++
	switch b.phase - 1 {
	case arriving:
		s.greet(b)
	case authenticating:
		if b.verifier == "" || b.verifier != b.login.Password {
			s.exit(b, CodePassword)
		}
	case checking:
		r, found := s.latest().named(b.login.Role)
		switch {
		case !found:
			s.exit(b, CodeNoLogin)
		case !r.Login:
			s.exit(b, CodeNoLogin)
		default:
			b.user, b.own, b.reset, b.seen = r.oid, r.oid, r.oid, s.visible
		}
	case entering:
		s.applyOptions(b)
	default:
		b.phase = ready
		s.reply(b, Reply{})
	}
}

// applyOptions holds a lock on the database until the session is listed.
func (s *Server) applyOptions(b *backend) {
	b.seen = s.visible
	if b.login.As != "" {
		if code := s.setRole(b, b.login.As); code != OK {
			s.exit(b, code)
			return
		}
		b.reset = b.own
	}
	if b.login.PostAuthDelay > 0 {
		b.wait = &wait{timer: b.login.PostAuthDelay}
	}
}

func (s *Server) greet(b *backend) {
	switch {
	case s.down != running:
		s.exit(b, CodeStarting)
		return
	case s.config.MaxConnections > 0 && len(s.backends) > s.config.MaxConnections:
		s.exit(b, CodeTooMany)
		return
	}
	if r, found := s.latest().named(b.login.Role); found {
		b.verifier = r.Password
	}
	if b.login.Slow {
		b.wait = &wait{client: true}
	}
}

// exit ends a backend and what it has open.
func (s *Server) exit(b *backend, code Code) {
	number := b.under()
	s.giveUp(b)
	if b.tx != nil {
		s.abort(b.tx)
	}
	s.releaseAll(func(h holding) bool { return h.session == b.pid })
	s.backends = slices.DeleteFunc(s.backends, func(o *backend) bool { return o == b })
	s.replies = append(s.replies, Reply{PID: b.pid, Request: number, Code: code, Closed: true})
	if s.down == stopping && len(s.backends) == 0 {
		s.down = stopped
	}
}

func (s *Server) reply(b *backend, r Reply) {
	r.PID = b.pid
	s.replies = append(s.replies, r)
}

// Replies hands over what clients were told since the last call.
func (s *Server) Replies() []Reply {
	out := s.replies
	s.replies = nil
	return out
}

func (s *Server) notify(text string) {
	for _, b := range s.backends {
		if slices.Contains(b.listens, Channel) {
			s.reply(b, Reply{Notice: text})
		}
	}
}
