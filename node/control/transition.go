package control

import (
	"slices"

	"github.com/duoflow/duoflow/node/lease"
)

// same, as the target of a row, stays in the state.
const same State = ""

// row is one transition. say is the sentence that stands in the log, in the history and in this table.
type row struct {
	from []State
	on   event
	when func(*Machine, Input) bool
	to   State
	do   func(*Machine, Input)
	say  string
}

func (r *row) fits(m *Machine, in Input) bool {
	return r.on == in.event() && slices.Contains(r.from, m.state) && (r.when == nil || r.when(m, in))
}

func in(states ...State) []State { return states }

// table is everything this host ever does about a job. The first row that fits is taken; an input that fits none
// changes nothing. Order matters only among the rows of one state and one event.
var table = []row{
	// Coming up.
	{in(Boot), onBegin, nil, same, (*Machine).clear,
		"a new daemon kills what earlier ones left before anything else"},
	{in(Boot), onDone, ended(OK), Standby, (*Machine).cleared,
		"nothing of an earlier daemon is left, so this host may be granted the job"},
	{in(Boot), onQuit, nil, Left, nil,
		"the daemon is stopped before it was ready"},
	{in(Boot, Fencing, Draining, Adopting, Stopping), onTick, due, same, (*Machine).again,
		"what failed is tried again, for as long as the epoch is ours"},

	{in(Fencing, Draining, Adopting), onFence, dueBySight, same, (*Machine).again,
		"the metastore is back, so what failed is tried again at once"},

	// Granted, or ordered.
	{in(Standby), onLease, granted, Fencing, (*Machine).begin,
		"the log grants an epoch to this life, so the fence is taken"},
	{in(Standby), onForce, forceable, Fencing, (*Machine).beginForced,
		"an operator orders a takeover without quorum, which the fence alone makes safe"},
	{in(Standby, Left), onTick, overdue, same, (*Machine).releaseAgain,
		"the log still counts a finished life of ours as holder and is told again"},
	{in(Left), onTick, neverBegun, same, (*Machine).releaseAgain,
		"the log has granted an epoch to a daemon that is leaving, and is told that it is not begun"},
	{in(Standby), onLease, overdue, same, (*Machine).releaseAgain,
		"the log has caught up with a life that is already over and is told so"},
	{in(Standby), onQuit, nil, Left, nil,
		"the daemon is stopped while it holds nothing"},

	// Taking over.
	{in(taking...), onLease, passed, Stopping, (*Machine).overtaken,
		"the cluster has moved on to another grant before we were active"},
	{in(taking...), onLease, asked, Stopping, (*Machine).moved,
		"an operator moves the job before we were active"},
	{in(taking...), onLease, toBeStopped, Stopping, (*Machine).halted,
		"an operator pauses the job before it is active, so that nobody runs it"},
	{in(taking...), onFence, fencedOff, Stopping, (*Machine).fenced,
		"the fence row names a later epoch or another life, so this takeover is over"},
	{in(taking...), onQuit, nil, Stopping, (*Machine).shutdown,
		"the daemon is stopped in the middle of a takeover"},
	{in(taking...), onDone, ended(Superseded), Stopping, (*Machine).superseded,
		"the metastore says that another grant has the fence"},
	{in(taking...), onDone, ended(Refused), Stopping, (*Machine).refused,
		"a step of the takeover can never work as things are"},
	{in(Starting), onDone, ended(Failed), Stopping, (*Machine).refused,
		"the job did not start; a life is used once, so the next try is a new epoch"},
	{in(Starting), onExited, nil, Stopping, (*Machine).exited,
		"the job ended while it was starting"},
	{in(Fencing), onDone, ended(OK), Draining, nil,
		"the fence is committed: the old role may do nothing more, its sessions are ended now"},
	{in(Draining), onDone, ended(OK), Adopting, (*Machine).markDrained,
		"no session of an older epoch can commit any more, the dead life's work is adopted"},
	{in(Adopting), onDone, ended(OK), Starting, (*Machine).markStarted,
		"the work is adopted; one process life gets the credentials and goes"},
	{in(Starting), onDone, ended(OK), Active, (*Machine).activate,
		"the job runs under its epoch"},

	// Active.
	{in(Active), onFence, fencedOff, Stopping, (*Machine).fenced,
		"the metastore has fenced this epoch off, whatever the log says"},
	{in(Active), onFence, blindAndPassed, Stopping, (*Machine).overtaken,
		"the cluster has granted a later epoch and we cannot see the fence any more"},
	{in(Active), onLease, regranted, Stopping, (*Machine).overtaken,
		"a later epoch is granted to this very life: it needs a process life of its own"},
	{in(Active), onLease, blindAndPassed, Stopping, (*Machine).overtaken,
		"the cluster has granted a later epoch while we cannot see the fence"},
	{in(Active), onLease, asked, Stopping, (*Machine).moved,
		"an operator asks for a switchover; the old holder leaves in order"},
	{in(Active), onLease, toBeStopped, Stopping, (*Machine).halted,
		"an operator pauses the job so that nobody runs it; the holder stops it in order"},
	{in(Active), onExited, nil, Stopping, (*Machine).exited,
		"the job ended by itself; what is left of its tree is killed"},
	{in(Active), onProgress, hung, Stopping, (*Machine).hung,
		"the job lives but makes no progress"},
	{in(Active), onQuit, nil, Stopping, (*Machine).shutdown,
		"the daemon is stopped and lets the job end in order"},
	{in(Active), onTick, mirrorDue, same, (*Machine).mirror,
		"the mirror rows are written for those who still read them"},

	// Going down.
	{in(Stopping), onDone, stoppedQuitting, Left, (*Machine).stopped,
		"the tree is empty and the daemon is leaving"},
	{in(Stopping), onDone, ended(OK), Standby, (*Machine).stopped,
		"the tree is empty: the cluster may grant again"},
}

// Guards.

func ended(want Outcome) func(*Machine, Input) bool {
	return func(_ *Machine, in Input) bool { return in.(Done).Outcome == want }
}

func due(m *Machine, _ Input) bool { return !m.waiting && m.now >= m.retryAt }

// dueBySight spares the wait when the reason of the failure is seen to be over. A row that is against us has rows of
// its own, so it must not come this way.
func dueBySight(m *Machine, in Input) bool {
	return !m.waiting && m.tries > 1 && in.(Fence).Healthy && !fencedOff(m, in)
}

// granted is the only door to a new epoch besides an operator's order: ours, and never begun before (I4, I5).
func granted(m *Machine, _ Input) bool { return m.mine() && m.view.Epoch > m.epoch }

// overdue: the log holds a life of ours that is over for the holder, and we have not told it just now.
func overdue(m *Machine, _ Input) bool {
	return m.mine() && m.view.Epoch <= m.epoch && m.now >= m.releaseAt
}

func neverBegun(m *Machine, _ Input) bool {
	return m.mine() && m.view.Epoch > m.epoch && m.empty && m.now >= m.releaseAt
}

func forceable(m *Machine, in Input) bool {
	return in.(Force).Epoch > max(m.epoch, m.view.Epoch, m.fence.Row.Epoch)
}

// passed: the log is beyond our epoch. A forced epoch is ahead of the log until the log has observed it.
func passed(m *Machine, _ Input) bool {
	return m.view.Epoch > m.epoch || (!m.forced && m.view.Epoch == m.epoch && !m.mine())
}

func regranted(m *Machine, _ Input) bool { return m.mine() && m.view.Epoch > m.epoch }

// blindAndPassed: as long as we see the fence row and it is ours we stay up, for the later grantee may never manage
// to take it. Once we cannot see it we must assume that it did.
func blindAndPassed(m *Machine, in Input) bool { return passed(m, in) && !m.fence.Healthy }

func asked(m *Machine, _ Input) bool {
	return m.mine() && m.view.Epoch == m.epoch && m.view.Move != nil && !m.view.Move.Now
}

// fencedOff: the row speaks of a later epoch, or of ours with another life, or, twice running while we are active,
// of an earlier one: the database was restored or has failed over to a copy without our fence.
func fencedOff(m *Machine, in Input) bool {
	f := in.(Fence)
	if !f.Healthy {
		return false
	}
	if f.Row.Epoch == m.epoch {
		return f.Row.Node != m.cfg.Self || f.Row.Token != m.cfg.Token
	}
	return f.Row.Epoch > m.epoch || m.behind >= 2
}

func hung(m *Machine, in Input) bool { return in.(Progress).Idle > m.cfg.Timing.HungAfter }

func mirrorDue(m *Machine, _ Input) bool { return m.now >= m.mirrorAt }

func stoppedQuitting(m *Machine, in Input) bool { return in.(Done).Outcome == OK && m.quitting }

// Actions.

func (m *Machine) clear(Input) { m.pursue(Clear) }

func (m *Machine) again(Input) { m.pursue(m.state.pursues()) }

func (m *Machine) cleared(Input) { m.empty = true }

func (m *Machine) begin(Input) { m.open(m.view.Epoch, false) }

func (m *Machine) beginForced(in Input) { m.open(in.(Force).Epoch, true) }

func (m *Machine) open(epoch lease.Epoch, forced bool) {
	m.epoch, m.forced = epoch, forced
	m.end("", "", 0)
}

func (m *Machine) markDrained(Input) { m.drained = m.epoch }

func (m *Machine) markStarted(Input) { m.started, m.empty = m.epoch, false }

func (m *Machine) activate(Input) { m.mirrorAt = m.now }

func (m *Machine) mirror(Input) {
	m.mirrorAt = m.now.Add(m.cfg.Timing.MirrorEvery)
	m.emit(Effect{Kind: Mirror, Epoch: m.epoch})
}

func (m *Machine) overtaken(Input) {
	m.end(lease.CauseFenced, "a later epoch was granted", m.cfg.Timing.FailGrace)
}

func (m *Machine) fenced(Input) {
	m.end(lease.CauseFenced, "the fence row belongs to another grant", m.cfg.Timing.FailGrace)
}

func (m *Machine) superseded(in Input) {
	m.end(lease.CauseFenced, in.(Done).Detail, m.cfg.Timing.FailGrace)
}

func (m *Machine) moved(Input) {
	cause := lease.CauseSwitchover
	if m.view.Move.Here {
		cause = lease.CauseRestart
	}
	m.end(cause, "an operator asked", m.cfg.Timing.PlannedGrace)
}

func (m *Machine) shutdown(Input) {
	m.end(lease.CauseShutdown, "the daemon is being stopped", m.cfg.Timing.PlannedGrace)
}

func (m *Machine) refused(in Input) { m.end(lease.CauseStartFailed, in.(Done).Detail, 0) }

func (m *Machine) exited(in Input) { m.end(lease.CauseExited, in.(Exited).Detail, 0) }

func (m *Machine) hung(in Input) {
	m.end(lease.CauseHung, "no progress for "+in.(Progress).Idle.String(), 0)
}

func (m *Machine) releaseAgain(Input) { m.release() }

// stopped is the one place where a life ends. The role of the epoch is given up too when nobody is about to take
// the fence from us anyway.
func (m *Machine) stopped(Input) {
	m.empty = true
	if m.cause == lease.CauseShutdown {
		m.emit(Effect{Kind: Surrender, Epoch: m.epoch})
	}
	if m.mine() && m.view.Epoch <= m.epoch {
		m.release()
	}
}
