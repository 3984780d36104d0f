package control

import (
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// Config is what a Machine is made of.
type Config struct {
	Job  lease.JobName
	Self lease.NodeID
	// Token is this daemon's life; a grant to another token of this node is not ours (invariant I5).
	Token   lease.Token
	Witness bool
	Timing  Timing
}

// Machine is this host's part in one job. Use NewMachine; one goroutine owns it.
type Machine struct {
	cfg   Config
	state State
	now   Instant

	// view is the lease as last applied, fence the metastore as last seen.
	view  lease.Job
	fence Fence

	// behind counts the looks in a row that found an older fence row than ours while we were active. One may be a
	// look that began before our fence was committed and came in late.
	behind int

	// epoch is the grant being carried out; it stays after the end, for results that come late are told apart by it.
	epoch lease.Epoch
	// forced: epoch was not granted by the log but ordered by an operator; the log will catch up.
	forced bool
	// drained and started are the last epochs for which that was reached; empty: no process of ours lives.
	drained, started lease.Epoch
	empty            bool
	quitting         bool

	// cause and detail say why the epoch ended; they become the release.
	cause  lease.Cause
	detail string
	grace  time.Duration

	// waiting: the effect of the present state is out. Otherwise it is due again at retryAt, after tries failures.
	waiting  bool
	retryAt  Instant
	tries    int
	mirrorAt Instant
	// releaseAt is when an unanswered release is proposed again.
	releaseAt Instant

	effects []Effect
}

// NewMachine returns a machine that has not begun. It panics on a configuration no caller can mean.
func NewMachine(cfg Config) *Machine {
	if cfg.Job == "" || cfg.Self == "" || !cfg.Token.Valid() {
		panic(fmt.Sprintf("control: machine without job, node or token: %+v", cfg))
	}
	m := &Machine{cfg: cfg, state: Boot, view: lease.Job{Name: cfg.Job, Phase: lease.Vacant}}
	if cfg.Witness {
		m.state = Witness
	}
	return m
}

// State returns what the host is doing.
func (m *Machine) State() State { return m.state }

// Epoch returns the grant being carried out, or the last one; 0 when there was none.
func (m *Machine) Epoch() lease.Epoch { return m.epoch }

// Why returns why the last epoch ended here, in words; empty while it runs.
func (m *Machine) Why() string { return m.detail }

// Step takes one input at one instant and returns the effects it leads to, in order. now must not go back.
func (m *Machine) Step(now Instant, in Input) []Effect {
	if now < m.now {
		panic(fmt.Sprintf("control: job %s: time went from %d back to %d", m.cfg.Job, m.now, now))
	}
	m.now = now
	m.effects = nil
	before := *m
	if !m.stale(in) {
		m.note(in)
		m.turn(in)
		// A grant that arrived while the last life was being cleared away is looked at once that is done.
		if m.state == Standby && before.state != Standby {
			m.turn(Lease{m.view})
		}
	}
	m.mustHold(before)
	return m.effects
}

// stale is the rule that drops what belongs to an epoch that is over, or to a state that has been left.
func (m *Machine) stale(in Input) bool {
	switch in := in.(type) {
	case Done:
		return in.Epoch != m.current(in.Of) || in.Of != m.state.pursues()
	case Exited:
		return in.Epoch != m.epoch
	case Progress:
		return in.Epoch != m.epoch
	case Lease:
		return in.Job.Name != m.cfg.Job
	}
	return false
}

// current is the epoch under which an effect of this kind is decided now. Clearing precedes every epoch.
func (m *Machine) current(k Kind) lease.Epoch {
	if k == Clear {
		return 0
	}
	return m.epoch
}

// note records what an input says before any rule looks at it.
func (m *Machine) note(in Input) {
	switch in := in.(type) {
	case Lease:
		m.view = in.Job
	case Fence:
		m.behind = m.countBehind(in)
		if !in.Healthy {
			in.Row, in.HighestRole = m.fence.Row, m.fence.HighestRole
		}
		m.fence = in
	case Done:
		m.waiting = false
		if in.Outcome != OK {
			m.retryAt = m.now.Add(doubled(m.cfg.Timing.RetryMin, m.tries, m.cfg.Timing.RetryMax))
			m.tries++
		}
	case Quit:
		m.quitting = true
	}
}

func (m *Machine) countBehind(f Fence) int {
	switch {
	case !f.Healthy:
		return m.behind
	case m.state == Active && f.Row.Epoch < m.epoch:
		return m.behind + 1
	}
	return 0
}

// turn takes the first row of the table that fits.
func (m *Machine) turn(in Input) {
	for i := range table {
		if table[i].fits(m, in) {
			m.take(&table[i], in)
			return
		}
	}
}

func (m *Machine) take(r *row, in Input) {
	from := m.state
	if r.to != same {
		m.state = r.to
		m.tries, m.waiting = 0, false
	}
	if r.do != nil {
		r.do(m, in)
	}
	if m.state == from {
		return
	}
	m.emit(Effect{Kind: Moved, Epoch: m.epoch, Move: &Transition{
		From: from, To: m.state, At: m.now, Cause: m.cause, Detail: m.detail, Say: r.say,
	}})
	if kind := m.state.pursues(); kind != "" {
		m.pursue(kind)
	}
}

// pursue sends out the effect the present state waits for. At most one is out at a time.
func (m *Machine) pursue(kind Kind) {
	if m.waiting {
		panic(fmt.Sprintf("control: job %s: %s wanted while one is out", m.cfg.Job, kind))
	}
	m.waiting = true
	e := Effect{Kind: kind, Epoch: m.current(kind)}
	if kind == Stop {
		e.Grace = m.grace
	}
	m.emit(e)
}

func (m *Machine) emit(e Effect) { m.effects = append(m.effects, e) }

// end records why the epoch is over here.
func (m *Machine) end(cause lease.Cause, detail string, grace time.Duration) {
	m.cause, m.detail, m.grace = cause, lease.Text(detail), grace
}

// release tells the cluster that the tree of the held epoch is empty. It is proposed again until the log says so.
func (m *Machine) release() {
	m.releaseAt = m.now.Add(m.cfg.Timing.RetryMax / 2)
	m.emit(Effect{Kind: Propose, Epoch: m.view.Epoch, Command: &lease.Command{Release: &lease.Release{
		Job: m.cfg.Job, Epoch: m.view.Epoch, Token: m.cfg.Token, Cause: m.cause, Detail: m.detail,
	}}})
}

// mine reports whether the log grants the job to this life.
func (m *Machine) mine() bool { return m.view.HeldBy(m.cfg.Self, m.cfg.Token) }
