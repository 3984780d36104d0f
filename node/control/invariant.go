package control

import "fmt"

// mustHold panics, with the values, when a step has broken an invariant of the design. A panic ends the daemon, and
// with it, by the kernel's hand, the job's process tree: stopping is always safe.
//
// I1 and I2 are kept by Postgres (package fence) and, for the log, by package lease. I8 and I9 are kept here only
// as far as this machine decides: when a mirror is written, and that credentials are given out once.
func (m *Machine) mustHold(before Machine) {
	for _, broken := range []string{
		m.epochForward(before),
		m.ownLifeOnly(before),
		m.waitsForOne(),
		m.effectsHold(before),
	} {
		if broken != "" {
			panic(fmt.Sprintf("control: job %s on %s: %s (state %s -> %s, epoch %d -> %d, lease %+v, fence %+v)",
				m.cfg.Job, m.cfg.Self, broken, before.state, m.state, before.epoch, m.epoch, m.view, m.fence))
		}
	}
}

// epochForward is I4 on this host: an epoch, once begun, never comes again, and a new one begins only from standby.
func (m *Machine) epochForward(before Machine) string {
	switch {
	case m.epoch < before.epoch:
		return "I4: epoch went back"
	case m.epoch > before.epoch && before.state != Standby && !settled(before.state, m):
		return "I4: epoch changed in the middle of a life"
	}
	return ""
}

// settled: the step ended one life and, being in standby then, began the next.
func settled(from State, m *Machine) bool {
	return (from == Boot || from == Stopping) && m.state == Fencing
}

// ownLifeOnly is I5: what is begun was granted to this life, or ordered by an operator.
func (m *Machine) ownLifeOnly(before Machine) string {
	if m.epoch != before.epoch && !m.forced && !m.mine() {
		return "I5: epoch of another life begun"
	}
	return ""
}

func (m *Machine) waitsForOne() string {
	if m.waiting && m.state.pursues() == "" {
		return "an effect is out that nothing waits for"
	}
	return ""
}

func (m *Machine) effectsHold(before Machine) string {
	for _, e := range m.effects {
		if broken := m.effectHolds(before, e); broken != "" {
			return broken
		}
	}
	return ""
}

func (m *Machine) effectHolds(before Machine, e Effect) string {
	if before.state == Witness {
		return "I7: a witness acts"
	}
	switch e.Kind {
	case Start:
		return m.startHolds(before)
	case Mirror:
		if m.state != Active || e.Epoch != m.epoch {
			return "I8: mirror written outside the active epoch"
		}
	case Propose:
		if e.Command.Release != nil && !m.empty {
			return "I6: epoch released while its tree may live"
		}
	case Clear, Take, Drain, Adopt, Stop, Surrender, Moved:
	}
	return ""
}

func (m *Machine) startHolds(before Machine) string {
	switch {
	case m.drained != m.epoch:
		return "I3: start before the drain of this epoch"
	case !before.empty:
		return "I6: start while an older tree may live"
	case before.started >= m.epoch:
		return "I9: credentials of an epoch given out twice"
	}
	return ""
}

// Idle reports whether no process of this job made by this machine can be alive.
func (m *Machine) Idle() bool { return m.empty }

// Report returns this host's word about the job, for its beats. Token, Goodbye, Hears and Warm are the caller's.
func (m *Machine) Report() Report {
	return Report{
		Token: m.cfg.Token, State: m.state, Epoch: m.epoch,
		Healthy: m.fence.Healthy, Row: m.fence.Row, HighestRole: m.fence.HighestRole,
		Goodbye: m.quitting,
	}
}
