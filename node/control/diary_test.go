package control_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// diary is a second, deliberately plain telling of what the raft leader decides: it keeps all it was told, by a clock that
// stands still while nobody listens, and reads it from the end for each question. TestGranterOracle compares the two. The
// gaps between beats are left out (fewer than a thousand are no opinion); FuzzGaps is about those.
type diary struct {
	self    lease.NodeID
	real    control.Instant // of the last entry
	stood   time.Duration   // for how long the clock stood
	entries []entry
	leads   bool
	since   control.Instant
	company control.Instant
	open    bool // a proposal is not answered
	nodes   []lease.Node
	job     lease.Job
	// ordered is when the job's last order was learnt of; silences and failures are such real instants too.
	ordered            control.Instant
	silences, failures []control.Instant
}

type entry struct {
	at control.Instant
	// apart: we were away or alone. Else in is what we were told.
	apart bool
	in    control.Input
}

const (
	silence = 300 * time.Millisecond
	lonely  = 200 * time.Millisecond // without any other node, for us to be the one who is cut off
)

func (d *diary) at() control.Instant { return d.real - control.Instant(d.stood) }

func (d *diary) note(now control.Instant, in control.Input) {
	if gap := now.Since(d.real); d.real != 0 && gap > 125*time.Millisecond {
		d.stood += gap
		if gap > silence {
			d.entries = append(d.entries, entry{apart: true})
		}
	}
	d.real = now
	switch in := in.(type) {
	case control.Leading:
		if in.On != d.leads {
			d.leads, d.since, d.open = in.On, d.at(), false
		}
	case control.Members:
		d.nodes = in.Nodes
	case control.Proposed:
		d.open = false
	case control.Lease:
		d.noteJob(in.Job)
	case control.Beat:
		if in.From != d.self {
			if len(d.nodes) > 1 && d.at().Since(d.company) > lonely {
				d.entries = append(d.entries, entry{apart: true})
			}
			d.company = d.at()
		}
	}
	d.entries = append(d.entries, entry{at: d.at(), in: in})
}

// noteJob remembers how lives ended, if they were not over before we listened.
func (d *diary) noteJob(j lease.Job) {
	ended := lease.Epoch(0)
	if j.Epoch != d.job.Epoch {
		ended = d.job.Epoch
	} else if j.Phase != d.job.Phase {
		ended = j.Epoch
	}
	heard, old := d.firstHeard()
	if last := lastTurn(j); ended != 0 && heard && ended >= old && last != nil {
		switch last.Cause {
		case lease.CauseSilent:
			d.silences = append(d.silences, d.real)
		case lease.CauseExited, lease.CauseHung, lease.CauseStartFailed:
			d.failures = append(d.failures, d.real)
		default: // nothing to grow calmer about
		}
	}
	if j.Order != d.job.Order {
		d.ordered = d.real
	}
	d.job = j
}

// lastTurn is the last entry that an operator's order has not made.
func lastTurn(j lease.Job) *lease.Entry {
	for _, e := range slices.Backward(j.History) {
		if e.Kind != lease.KindPause && e.Kind != lease.KindResume {
			return &e
		}
	}
	return nil
}

// firstHeard returns whether anybody was heard, and the highest epoch in everybody's first words.
func (d *diary) firstHeard() (somebody bool, old lease.Epoch) {
	known := map[lease.NodeID]bool{}
	for _, e := range d.entries {
		if b, ok := e.in.(control.Beat); ok && !known[b.From] {
			known[b.From], somebody = true, true
			old = max(old, b.Said.Epoch, b.Said.Row.Epoch)
		}
	}
	return somebody, old
}

// picture is what is known of a node.
type picture struct {
	heard, gone, missed bool
	said                control.Report
	at, blind, sees     control.Instant
}

func (d *diary) of(id lease.NodeID) picture {
	var p picture
	for _, e := range d.entries {
		switch in := e.in.(type) {
		case control.Beat:
			if in.From != id {
				break
			}
			if in.Said.Healthy {
				p.blind = 0
			} else if p.blind == 0 {
				p.blind = e.at
			}
			if !in.Said.Healthy {
				p.sees = 0
			} else if p.sees == 0 {
				p.sees = e.at
			}
			p.heard, p.gone, p.missed, p.said, p.at = true, false, false, in.Said, e.at
		case control.Lost:
			p.gone = p.gone || (in.Node == id && in.Refused)
		case control.Lease:
			p.believe(id, in.Job)
		}
		p.missed = p.missed || e.apart
	}
	return p
}

// believe takes a release for its holder's own word.
func (p *picture) believe(id lease.NodeID, j lease.Job) {
	last := lastTurn(j)
	if j.Phase != lease.Released || j.Holder != id || j.Token != p.said.Token || last == nil {
		return
	}
	switch last.Cause {
	case lease.CauseShutdown:
		p.said.Goodbye = true
	case lease.CauseFenced:
	default:
		p.said.State = control.Standby
	}
}

func (d *diary) lately(all []control.Instant) (n int) {
	for _, at := range all {
		if d.real.Since(at) < 10*time.Minute {
			n++
		}
	}
	return n
}

func (d *diary) patience(p picture) time.Duration {
	after := silence
	for n := d.lately(d.silences); n > 1; n-- {
		after = min(2*after, 8*silence)
	}
	if p.missed || !p.heard {
		after = max(after, 2*time.Second)
	}
	return after
}

func (d *diary) suspicion() lease.Cause {
	if !d.leads || d.job.Phase != lease.Granted {
		return ""
	}
	h := d.of(d.job.Holder)
	unheard, patience := d.at().Since(max(h.at, d.since)), d.patience(h)
	switch {
	case d.job.Move != nil && d.job.Move.Now:
		return lease.CauseFailover
	case h.gone:
		return lease.CauseGone
	case h.heard && h.said.Token != d.job.Token:
		return lease.CauseReborn
	case unheard > patience && (len(d.nodes) < 2 || d.at().Since(d.company) <= lonely):
		return lease.CauseSilent
	case h.said.Goodbye && h.said.State == control.Left:
		return lease.CauseGoodbye
	case h.blind != 0 && d.at().Since(h.blind) > 2*patience && h.said.State != control.Stopping:
		for _, id := range ids {
			if p := d.of(id); id != d.job.Holder && d.fit(id) && p.sees != 0 && d.at().Since(p.sees) > 2*patience {
				return lease.CauseBlind
			}
		}
	}
	return ""
}

func (d *diary) member(id lease.NodeID) (known, witness bool) {
	for _, n := range d.nodes {
		if n.ID == id {
			return true, n.Witness
		}
	}
	return false, false
}

func (d *diary) fit(id lease.NodeID) bool {
	p := d.of(id)
	known, witness := d.member(id)
	hearsUs := id == d.self || slices.Contains(p.said.Hears, d.self)
	holds := d.job.Phase == lease.Granted && d.job.Holder == id && d.job.Token == p.said.Token
	return known && !witness && p.heard && !p.gone && d.at().Since(p.at) <= silence && !p.said.Goodbye &&
		p.said.State == control.Standby && p.said.Healthy && !p.said.Unwritable && hearsUs && !holds
}

// decide returns the line of the proposal that is called for, as proposal does.
func (d *diary) decide(t *testing.T) string {
	t.Helper()
	if !d.leads || d.open {
		return "nothing"
	}
	var top control.Row
	next := d.job.Epoch
	for _, id := range ids {
		said := d.of(id).said
		_, witness := d.member(said.Row.Node)
		if said.Row.Epoch > top.Epoch && said.Row.Token.Valid() && lease.ValidName(string(said.Row.Node)) && !witness {
			top = said.Row
		}
		next = max(next, said.Row.Epoch, said.HighestRole)
	}
	if top.Epoch > d.job.Epoch {
		d.open = true
		return proposal([]control.Effect{{Kind: control.Propose, Command: &lease.Command{Observe: &lease.Observe{Epoch: top.Epoch, Node: top.Node}}}})
	}
	if order := d.dueOrder(); order != "" {
		d.open = true
		return order
	}
	cause := d.cause()
	if p := d.job.Pause; p != nil && p.Level != lease.PauseMoves && d.job.Move == nil {
		cause = ""
	}
	to := d.best()
	if cause == "" || to == "" {
		return "nothing"
	}
	d.open = true
	return proposal([]control.Effect{{Kind: control.Propose, Command: &lease.Command{
		Grant: &lease.Grant{Next: next + 1, Expect: d.job.Epoch, Node: to, Cause: cause},
	}}})
}

// dueOrder is the line of a move whose time has come, or of the end of a pause.
func (d *diary) dueOrder() string {
	ago := d.real.Since(d.ordered)
	if plan := d.job.Plan; plan != nil && ago >= plan.In {
		known, witness := d.member(plan.Move.To)
		if plan.Move.To != "" && (!known || witness || d.job.Phase == lease.Granted && d.job.Holder == plan.Move.To) {
			return "cancel"
		}
		return "ask to " + string(plan.Move.To)
	}
	if pause := d.job.Pause; pause != nil && pause.For > 0 && ago >= pause.For {
		return "resume"
	}
	return ""
}

// cause is why somebody should be granted the job now.
func (d *diary) cause() lease.Cause {
	switch d.job.Phase {
	case lease.Granted:
		return d.suspicion()
	case lease.Released:
		if d.job.Move != nil && d.job.Move.Here {
			return lease.CauseRestart
		}
		if d.job.Move != nil {
			return lease.CauseSwitchover
		}
		wait, n := time.Second, d.lately(d.failures)
		for range n - 2 {
			wait = min(2*wait, 30*time.Second)
		}
		if n < 2 || d.real.Since(d.failures[len(d.failures)-1]) >= wait {
			return lease.CauseRestart
		}
		return ""
	default:
		if d.at().Since(d.since) > 2*silence {
			return lease.CauseFirst
		}
		return ""
	}
}

// best is the fit node with the most points; of equals the first by name.
func (d *diary) best() (best lease.NodeID) {
	most := -1
	for _, id := range ids {
		points := 0
		if m := d.job.Move; m != nil && (m.To == id || m.To == "" && d.job.Holder != id) {
			points += 100
		}
		if d.of(id).said.Warm {
			points += 10
		}
		points += 2
		if n := d.lately(d.failures); d.job.Phase == lease.Released && d.job.Holder == id && n == 1 {
			points++
		} else if d.job.Phase == lease.Released && d.job.Holder == id && n > 1 {
			points--
		}
		stays := d.job.Pause != nil && d.job.Pause.Level == lease.PauseMoves && d.job.Move == nil && d.job.Phase != lease.Vacant
		if d.fit(id) && points > most && (!stays || id == d.job.Holder) {
			best, most = id, points
		}
	}
	return best
}

// rumour tells a granter whatever may come.
type rumour struct {
	r   *rand.Rand
	now control.Instant
	log lease.State
	// mind is what was proposed and is not in the log.
	mind []lease.Command
	// sick cannot reach the metastore for a while.
	sick lease.NodeID
}

func (m *rumour) draw() control.Input {
	switch n := m.r.IntN(100); {
	case n < 80:
		m.now = m.now.Add(time.Duration(m.r.IntN(40)) * time.Millisecond)
	case n < 98:
		m.now = m.now.Add(time.Duration(m.r.IntN(400)) * time.Millisecond)
	default:
		m.now = m.now.Add(time.Duration(m.r.IntN(4)) * time.Second)
	}
	switch n := m.r.IntN(100); {
	case n < 58:
		return m.beat()
	case n < 64:
		return control.Tick{}
	case n < 68:
		return control.Lost{Node: ids[m.r.IntN(len(ids))], Refused: m.r.IntN(2) == 0}
	case n < 71:
		return control.Leading{On: m.r.IntN(4) > 0}
	case n < 73:
		return control.Members{Nodes: m.log.Nodes}
	case n < 83:
		return control.Proposed{}
	}
	return m.news()
}

func (m *rumour) beat() control.Input {
	job, _ := m.log.Job(jobName)
	from := ids[m.r.IntN(len(ids))]
	life := tokenOf(from)
	if m.r.IntN(30) == 0 {
		life = tokenOf("z")
	}
	odd := m.r.IntN(3) == 0
	said := control.Report{Token: life, State: control.Standby, Healthy: true, Hears: ids, Warm: m.r.IntN(3) == 0}
	if job.Holder == from && job.Phase == lease.Granted {
		said.State, said.Epoch = control.Active, job.Epoch
	}
	if odd {
		states := []control.State{control.Boot, control.Standby, control.Fencing, control.Active, control.Stopping, control.Left}
		said.State, said.Healthy = states[m.r.IntN(len(states))], m.r.IntN(2) == 0
		said.Goodbye, said.Unwritable = m.r.IntN(3) == 0, m.r.IntN(4) == 0
		said.Hears = ids[m.r.IntN(len(ids)):]
	}
	if m.r.IntN(80) == 0 {
		m.sick = []lease.NodeID{"", job.Holder}[m.r.IntN(2)]
	}
	said.Healthy = said.Healthy && from != m.sick
	said.Row = control.Row{Epoch: job.Epoch, Node: job.Holder, Token: job.Token}
	if m.r.IntN(40) == 0 {
		said.Row = control.Row{Epoch: job.Epoch + lease.Epoch(m.r.IntN(3)), Node: ids[m.r.IntN(len(ids))], Token: life}
	}
	said.HighestRole = said.Row.Epoch + lease.Epoch(m.r.IntN(30)/29)
	return control.Beat{From: from, Said: said}
}

// news lets something happen to the log, often what was proposed, and tells what it says.
func (m *rumour) news() control.Input {
	job, _ := m.log.Job(jobName)
	causes := []lease.Cause{lease.CauseExited, lease.CauseHung, lease.CauseShutdown, lease.CauseFenced, lease.CauseStartFailed, lease.CauseSwitchover}
	var c lease.Command
	switch n := m.r.IntN(10); {
	case n < 5 && len(m.mind) > 0:
		c = m.mind[len(m.mind)-1]
	case n < 7:
		c.Release = &lease.Release{Job: jobName, Epoch: job.Epoch, Token: job.Token, Cause: causes[m.r.IntN(len(causes))]}
	case n < 8:
		c.Ask = m.ask(job)
	case n < 9:
		c.Hold = &lease.Hold{Job: jobName, Order: job.Order}
		if job.Pause == nil || m.r.IntN(3) == 0 {
			levels := []lease.Level{lease.PauseMoves, lease.PauseGrants, lease.PauseStopped}
			c.Hold.Pause = &lease.Pause{Level: levels[m.r.IntN(3)], For: time.Duration(m.r.IntN(3)) * time.Second}
		}
	}
	m.log.Apply(c)
	job, _ = m.log.Job(jobName)
	return control.Lease{Job: job}
}

func (m *rumour) ask(job lease.Job) *lease.Ask {
	ask := &lease.Ask{Job: jobName, Epoch: job.Epoch, Move: lease.Move{To: []lease.NodeID{"", "a", "b"}[m.r.IntN(3)], Now: m.r.IntN(2) == 0}}
	switch m.r.IntN(6) {
	case 0:
		ask.Move = lease.Move{To: job.Holder, Here: true}
	case 1:
		ask.In = time.Duration(m.r.IntN(3000)) * time.Millisecond
	case 2:
		ask.Cancel = true
	}
	return ask
}

// TestGranterOracle tells both the same rumours and compares every opinion and every proposal.
func TestGranterOracle(t *testing.T) {
	proposed, suspected := map[string]int{}, map[lease.Cause]int{}
	for seed := range uint64(120) {
		m := &rumour{r: rand.New(rand.NewPCG(seed, 5)), now: control.Instant(time.Hour)}
		nodes := []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "t", Witness: true}}
		m.log.Apply(lease.Command{Configure: &lease.Configure{Nodes: nodes, Jobs: []lease.JobName{jobName}}})
		self := ids[seed%4]
		g := control.NewGranter(control.GranterConfig{Job: jobName, Self: self, Timing: control.DefaultTiming()})
		d := &diary{self: self, job: lease.Job{Name: jobName, Phase: lease.Vacant}}
		for i := range 300 {
			in := []control.Input{control.Members{Nodes: m.log.Nodes}, control.Leading{On: true}}[min(i, 1)]
			if i > 1 {
				in = m.draw()
			}
			effects := g.Step(m.now, in)
			d.note(m.now, in)
			got, want := proposal(effects), d.decide(t)
			if got != want || g.Suspicion().Cause != d.suspicion() {
				t.Fatalf("seed %d step %d: after %T%+v\ngranter: %s, suspects %q\n oracle: %s, suspects %q\njob %+v", seed, i, in, in,
					got, g.Suspicion().Cause, want, d.suspicion(), d.job)
			}
			for _, e := range effects {
				m.mind = append(m.mind, *e.Command)
				if e.Command.Grant != nil {
					proposed[string(e.Command.Grant.Cause)]++
				} else {
					proposed[strings.Fields(got)[0]]++
				}
			}
			suspected[d.suspicion()]++
		}
	}
	for _, cause := range []string{"first", "restart", "switchover", "failover", "gone", "reborn", "silent", "blind", "goodbye", "observe", "ask", "resume"} {
		if proposed[cause] == 0 {
			t.Errorf("nothing was proposed because of %s: %v; suspected %v", cause, proposed, suspected)
		}
	}
}
