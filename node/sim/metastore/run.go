package metastore

// Statement is one statement that a session can run.
type Statement interface {
	// units is what the statement does, one piece after the other.
	units() []unit
}

// unit does a piece of a statement. It is called again when it says so, after what it waits for.
type unit func(s *Server, b *backend, r *run) verdict

// verdict is how a unit ended: the next one's turn, once more, or a failure.
type verdict struct {
	again bool
	code  Code
}

var (
	onward = verdict{}
	again  = verdict{again: true}
)

func failed(code Code) verdict { return verdict{code: code} }

// run is a request under way.
type run struct {
	request  Request
	number   int
	at       int // statement of the request
	pc       int // unit of the statement
	units    []unit
	snapshot seq
	value    any
	ending   bool // the statements are done, the transaction is to be committed
	row      *row
	heavy    string // lock on the row's version while waiting for it
	local    any    // of a statement with more to remember
	sub      *run   // a statement that this one has called
}

// call runs a statement as part of this one, before its next unit.
func (r *run) call(statement Statement) { r.sub = &run{units: statement.units()} }

// statement is the one under way.
func (r *run) statement() Statement { return r.request[min(r.at, len(r.request)-1)] }

// deepest is the run whose unit is next, with its caller.
func (r *run) deepest() (cur, caller *run) {
	for cur = r; cur.sub != nil; cur = cur.sub {
		caller = cur
	}
	return cur, caller
}

// advance goes on to the next unit, and returns to the caller after the last.
func (r *run) advance(cur *run) {
	cur.pc++
	for {
		now, caller := r.deepest()
		if caller == nil || now.pc < len(now.units) {
			return
		}
		caller.sub = nil
	}
}

// work does one unit of the request under way.
func (s *Server) work(b *backend) {
	r := b.run
	switch {
	case r.ending:
		s.commit(b)
	case r.units == nil && r.at == len(r.request):
		s.endRequest(b)
	case r.units == nil:
		s.beginStatement(b)
	default:
		s.unit(b)
	}
}

func (s *Server) beginStatement(b *backend) {
	r := b.run
	statement := r.request[r.at]
	if b.failed && !ends(statement) {
		s.fail(b, CodeAborted)
		return
	}
	if b.tx == nil && !b.failed {
		s.begin(b, ReadCommitted)
		b.before = b.own
	}
	if b.tx != nil && queries(statement) {
		b.tx.queried = true
		s.snapshot(b.tx) // of the whole transaction, if it is RepeatableRead: taken before any lock is waited for
	}
	r.units, r.pc, r.row, r.heavy, r.local, r.value = statement.units(), 0, nil, "", nil, nil
	s.unit(b) // parsing alone is no unit: nothing can be told from before it
}

func (s *Server) unit(b *backend) {
	r := b.run
	cur, _ := r.deepest()
	v := cur.units[cur.pc](s, b, cur)
	switch {
	case b.deadlocked:
		b.deadlocked = false
		s.fail(b, CodeDeadlock)
		return
	case v.code != OK:
		s.fail(b, v.code)
		return
	case b.wait != nil && b.wait.lock != "":
		b.wait.timer = b.login.LockTimeout
	case !v.again:
		r.advance(cur)
	}
	if r.sub == nil && r.pc == len(r.units) {
		r.units = nil
		r.at++
	}
	if b.wait == nil && r.units == nil && r.at == len(r.request) && !r.ending {
		s.endRequest(b)
	}
}

// endRequest answers, or goes to commit what no BEGIN began.
func (s *Server) endRequest(b *backend) {
	if b.tx != nil && !b.block {
		b.run.ending = true
		return
	}
	s.answer(b, OK)
}

func (s *Server) answer(b *backend, code Code) {
	s.reply(b, Reply{Request: b.run.number, Code: code, Value: b.run.value})
	b.run = nil
}

// fail ends the request with an error, and with it the transaction.
func (s *Server) fail(b *backend, code Code) {
	if b.tx != nil {
		s.abort(b.tx)
		b.tx = nil
		b.own = b.before
	}
	b.failed = b.block
	b.run.value = nil
	s.answer(b, code)
}

// commit writes the record of the transaction; with a synchronous standby it then waits.
func (s *Server) commit(b *backend) {
	t := b.tx
	t.role, t.as = s.latest().name(b.user), s.latest().name(b.own)
	if t.wrote() {
		t.parted = s.write(t, commitRecord, !b.login.Asynchronous)
		if s.config.Synchronous && !b.login.Asynchronous && s.replicated < t.parted {
			b.wait = &wait{standby: t.parted}
			return
		}
	}
	s.finish(b)
}

// finish is the rest of a commit, when its record is where it has to be.
func (s *Server) finish(b *backend) {
	t := b.tx
	b.wait = nil
	s.show(t)
	b.tx, b.block, b.run.ending = nil, false, false
	if b.run.at < len(b.run.request) {
		return
	}
	s.answer(b, OK)
}

// Replicated says that the synchronous standby has the log up to there.
func (s *Server) Replicated(upTo LSN) {
	s.replicated = max(s.replicated, min(upTo, s.LastLSN()))
	for _, b := range s.backends {
		if b.wait != nil && b.wait.standby > 0 && b.wait.standby <= s.replicated {
			s.finish(b)
		}
	}
}
