package control

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// GranterConfig is what a Granter is made of.
type GranterConfig struct {
	Job  lease.JobName
	Self lease.NodeID
	// Follow names the job whose active node this one must run on; empty: none.
	Follow lease.JobName
	// Priority orders candidates, higher first; absent is 0. NoFailover are nodes that are never granted the job.
	Priority   map[lease.NodeID]int
	NoFailover map[lease.NodeID]bool
	Timing     Timing
	// Board is what the jobs of the cluster weigh where, shared with the other granters of this node; nil: no job weighs anything.
	Board *Board
}

// peer is what this node knows of another, or of itself, from beats.
type peer struct {
	id      lease.NodeID
	said    Report
	heardAt Instant
	// gone: connection closed and redial refused since the last beat.
	gone bool
	// cut: since the last beat its connection closed, or its silence cost it the job; see hearGap.
	cut bool
	// missed: it was not heard since we were away or alone; see patience.
	missed bool
	// gaps is nil until it is heard twice.
	gaps *gaps
	// blindSince is when it was first said, without a break since, not to reach the metastore, seesSince when to reach it; 0 for
	// the one that is not so.
	blindSince, seesSince Instant
}

// Granter decides for one job, on the node that is raft leader; elsewhere it only listens, so that it knows enough
// the moment it leads. One goroutine owns it.
type Granter struct {
	cfg GranterConfig
	now Instant

	leading bool
	// since is when this node began to lead: before that it was nobody's business to hear the holder.
	since Instant
	view  lease.Job
	// followed is the job named by cfg.Follow.
	followed lease.Job
	nodes    []lease.Node
	// peers is sorted by id.
	peers []peer

	// proposed is the epoch of a proposal that has not been answered; 0 when none is out.
	proposed lease.Epoch
	// listening: somebody has been heard. old is the highest epoch that was spoken of when each was heard first: lives
	// before it ended at a time we do not know.
	listening bool
	old       lease.Epoch
	// company is when any other node was heard last.
	company Instant
	// silences and failures are when, in the calm window, silence cost a holder the job, and the job's lives failed.
	silences, failures []Instant
	// orderedAt is when the view's Order was first seen.
	orderedAt Instant
	suspicion Suspicion
}

// Suspicion is why the leader wants the job elsewhere. The zero value is trust.
type Suspicion struct {
	Cause  lease.Cause
	Detail string
	// Unheard is how long the holder has not been heard; 0 when that is not the point.
	Unheard time.Duration
}

// NewGranter returns a granter that does not lead.
func NewGranter(cfg GranterConfig) *Granter {
	return &Granter{cfg: cfg, view: lease.Job{Name: cfg.Job, Phase: lease.Vacant}}
}

// stallPart: time that jumps by more than a step and this part of the detection time has not been spent listening. In
// `lan`, with steps of 50 ms, that is 125 ms.
const stallPart = 4

// Suspicion returns the leader's present opinion of the holder.
func (g *Granter) Suspicion() Suspicion { return g.suspicion }

// Step takes one input at one instant and returns the proposals it leads to, at most one at a time.
func (g *Granter) Step(now Instant, in Input) []Effect {
	if now < g.now {
		panic(fmt.Sprintf("control: granter of %s: time went from %d back to %d", g.cfg.Job, g.now, now))
	}
	if stall := now.Since(g.now); g.now != 0 && stall > g.cfg.Timing.Step+g.cfg.Timing.Silence/stallPart {
		g.excuse(stall)
	}
	g.now = now
	g.note(in)
	if !g.leading {
		g.suspicion = Suspicion{}
		return nil
	}
	g.suspicion = g.suspect()
	if g.proposed != 0 {
		return nil
	}
	return g.decide()
}

// excuse moves what was heard by the time in which we did not listen, so that a stall of our own is nobody's silence.
func (g *Granter) excuse(stall time.Duration) {
	if stall > g.cfg.Timing.Silence {
		g.missEverybody()
	}
	g.since, g.company = g.since.Add(stall), g.company.Add(stall)
	for i := range g.peers {
		p := &g.peers[i]
		if p.heardAt != 0 {
			p.heardAt = p.heardAt.Add(stall)
		}
		if p.blindSince != 0 {
			p.blindSince = p.blindSince.Add(stall)
		}
		if p.seesSince != 0 {
			p.seesSince = p.seesSince.Add(stall)
		}
	}
}

// alone reports whether nobody else has been heard for about as long as would make the holder suspect: then it is our own link
// that is silent. What an isolated leader proposes stays in its log, and is agreed on when it is heard again, after all is well.
// Who is a cluster by itself has nobody to hear.
func (g *Granter) alone() bool {
	return len(g.nodes) > 1 && g.now.Since(g.company) > g.cfg.Timing.Silence*2/3
}

// missEverybody: we were away, or heard from nobody, so who is silent now may only not have found us yet.
func (g *Granter) missEverybody() {
	for i := range g.peers {
		g.peers[i].missed = true
	}
}

func (g *Granter) note(in Input) {
	switch in := in.(type) {
	case Leading:
		if in.On != g.leading {
			g.leading, g.since, g.proposed = in.On, g.now, 0
			g.post()
		}
	case Members:
		g.noteMembers(in.Nodes)
	case Lease:
		g.noteLease(in.Job)
	case Beat:
		g.noteBeat(in)
	case Lost:
		p := g.peer(in.Node)
		p.gone, p.cut = p.gone || in.Refused, true
	case Proposed:
		g.proposed = 0
		g.post()
	}
}

// noteMembers forgets those who were members and are none any more: their silence is nobody's business, and the fence that they saw is
// seen by the others too. A holder among them is remembered, for it has to be suspected.
func (g *Granter) noteMembers(nodes []lease.Node) {
	for _, was := range g.nodes {
		stays := slices.ContainsFunc(nodes, func(n lease.Node) bool { return n.ID == was.ID })
		if stays || was.ID == g.cfg.Self || was.ID == g.view.Holder {
			continue
		}
		g.peers = slices.DeleteFunc(g.peers, func(p peer) bool { return p.id == was.ID })
	}
	g.nodes = nodes
}

func (g *Granter) noteBeat(in Beat) {
	p := g.peer(in.From)
	if in.From != g.cfg.Self {
		if g.alone() {
			g.missEverybody()
		}
		g.company = g.now
	}
	if p.heardAt == 0 {
		g.listening, g.old = true, max(g.old, in.Said.Epoch, in.Said.Row.Epoch)
	}
	p.hear(in.Said, g.now)
}

func (p *peer) hear(said Report, now Instant) {
	p.hearGap(said, now)
	p.said, p.heardAt, p.gone, p.cut, p.missed = said, now, false, false, false
	switch {
	case said.Healthy && p.seesSince == 0:
		p.blindSince, p.seesSince = 0, now
	case !said.Healthy && p.blindSince == 0:
		p.blindSince, p.seesSince = now, 0
	}
}

func (g *Granter) noteLease(j lease.Job) {
	if j.Name == g.cfg.Follow {
		g.followed = j
	}
	if j.Name != g.cfg.Job {
		return
	}
	if e, ok := newest(j.History); ok && g.news(j) {
		g.remember(e)
	}
	g.noteOrder(j)
	g.view = j
	g.post()
	if p := g.peer(j.Holder); j.Phase == lease.Released && p.said.Token == j.Token {
		p.released(j.History)
	}
}

// news reports whether the job's last entry ends a life that was not over when we began to listen. What a restarted
// node reads in its log, or is sent to catch up, happened it does not know when.
func (g *Granter) news(j lease.Job) bool {
	over := j.Epoch
	if j.Epoch != g.view.Epoch {
		over = g.view.Epoch
	} else if j.Phase == g.view.Phase {
		return false
	}
	return g.listening && over != 0 && over >= g.old
}

// released takes a release for the holder's own word; its next beat will say the same. One that was fenced off is left
// out: it knows more than we do, and its beat brings it.
func (p *peer) released(history []lease.Entry) {
	last, ok := newest(history)
	if !ok {
		return
	}
	switch last.Cause {
	case lease.CauseShutdown:
		p.said.Goodbye = true
	case lease.CauseFenced:
	default:
		p.said.State = Standby
	}
}

// remember keeps the instants that damping needs.
func (g *Granter) remember(e lease.Entry) {
	switch e.Cause {
	case lease.CauseSilent:
		g.silences = append(g.recent(g.silences), g.now)
		g.peer(g.view.Holder).cut = true
	case lease.CauseExited, lease.CauseHung, lease.CauseStartFailed:
		g.failures = append(g.recent(g.failures), g.now)
	default: // the other causes are somebody's decision, or proof: nothing to grow calmer about
	}
}

func (g *Granter) recent(at []Instant) []Instant {
	return slices.DeleteFunc(at, func(t Instant) bool { return g.now.Since(t) >= g.cfg.Timing.CalmWindow })
}

func (g *Granter) peer(id lease.NodeID) *peer {
	i, ok := slices.BinarySearchFunc(g.peers, id, func(p peer, id lease.NodeID) int { return cmp.Compare(p.id, id) })
	if !ok {
		g.peers = slices.Insert(g.peers, i, peer{id: id})
	}
	return &g.peers[i]
}

// decide returns the proposal the present situation calls for.
func (g *Granter) decide() []Effect {
	if row, ahead := g.rowAhead(); ahead {
		return g.propose(row.Epoch, lease.Command{Observe: &lease.Observe{
			Job: g.cfg.Job, Epoch: row.Epoch, Node: row.Node, Token: row.Token,
		}})
	}
	if order, due := g.orderDue(); due {
		return g.propose(max(g.view.Epoch, 1), order) // there may be no epoch yet
	}
	reason, wanted := g.wanted()
	if !wanted || g.heldBack() {
		return nil
	}
	to, ok := g.pick()
	if !ok {
		return nil
	}
	next := g.nextEpoch()
	grant := &lease.Grant{
		Job: g.cfg.Job, Expect: g.view.Epoch, Next: next, Node: to.id, Token: to.said.Token,
		Cause: reason.Cause, Detail: reason.Detail,
	}
	if reason.Unheard > 0 {
		grant.Detect = lease.Timing{Name: "detect", Took: reason.Unheard}
	}
	g.cfg.Board.put(g.cfg.Job, to.id)
	return g.propose(next, lease.Command{Grant: grant})
}

func (g *Granter) propose(epoch lease.Epoch, c lease.Command) []Effect {
	g.proposed = epoch
	return []Effect{{Kind: Propose, Epoch: epoch, Command: &c}}
}

// rowAhead returns the highest fence row anyone has seen when it is beyond the log: somebody took the fence without
// quorum, or the log was lost.
func (g *Granter) rowAhead() (Row, bool) {
	var top Row
	for i := range g.peers {
		if r := g.peers[i].said.Row; r.Epoch > top.Epoch && g.observable(r) {
			top = r
		}
	}
	return top, top.Epoch > g.view.Epoch
}

// observable rows are those the log would accept. Any other is no less a reason to choose a higher epoch.
func (g *Granter) observable(r Row) bool {
	return r.Token.Valid() && lease.ValidName(string(r.Node)) && !g.witness(r.Node)
}

// nextEpoch is beyond everything anyone has ever seen, so that a wiped cluster or a restored database still moves on.
func (g *Granter) nextEpoch() lease.Epoch {
	top := g.view.Epoch
	for i := range g.peers {
		top = max(top, g.peers[i].said.Row.Epoch, g.peers[i].said.HighestRole)
	}
	return top + 1
}

// wanted says whether somebody should be granted the job now, and why.
func (g *Granter) wanted() (Suspicion, bool) {
	switch g.view.Phase {
	case lease.Granted:
		return g.suspicion, g.suspicion.Cause != ""
	case lease.Released:
		return g.wantedAgain()
	case lease.Vacant:
	}
	// Nobody ever had it: give every node the time to come up, so that the order of candidates counts.
	settled := g.now.Since(g.since) > 2*g.cfg.Timing.Silence
	return Suspicion{Cause: lease.CauseFirst, Detail: "the job was never granted"}, settled
}

func (g *Granter) wantedAgain() (Suspicion, bool) {
	switch move := g.view.Move; {
	case move == nil:
	case move.Here:
		return Suspicion{Cause: lease.CauseRestart, Detail: "an operator asked"}, true
	default:
		return Suspicion{Cause: lease.CauseSwitchover, Detail: "an operator asked"}, true
	}
	why := Suspicion{Cause: lease.CauseRestart, Detail: fmt.Sprintf("%s released epoch %d", g.view.Holder, g.view.Epoch)}
	return why, g.calm() <= 0
}

// calm is how long a job whose lives keep failing is still left alone; 0 or less: not any more. The first failure in a
// window is answered at once.
func (g *Granter) calm() time.Duration {
	g.failures = g.recent(g.failures)
	n := len(g.failures)
	if n < 2 {
		return 0
	}
	return doubled(g.cfg.Timing.RestartMin, n-2, g.cfg.Timing.RestartMax) - g.now.Since(g.failures[n-1])
}

// Waits says why the leader does not grant a job that nobody runs, or whose holder it suspects; empty when nothing holds it back.
func (g *Granter) Waits() string {
	if !g.leading || g.view.Move != nil || (g.view.Phase == lease.Granted && g.suspicion.Cause == "") {
		return ""
	}
	if why := g.waitsForResume(); why != "" || g.view.Phase != lease.Released {
		return why
	}
	calm := g.calm()
	if calm <= 0 {
		return ""
	}
	return fmt.Sprintf("%d lives failed within %s: granted again in %s", len(g.failures), g.cfg.Timing.CalmWindow,
		calm.Round(100*time.Millisecond))
}
