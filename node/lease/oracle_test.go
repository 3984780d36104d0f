package lease_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// oracle is a second, deliberately naive implementation: it keeps the list of accepted commands and answers every
// question by reading it from the start. It shares no code with package lease but the command types.
type oracle struct{ accepted []lease.Command }

// accepts decides a command of valid form from the list alone.
func (o *oracle) accepts(c lease.Command) bool {
	switch {
	case c.Configure != nil:
		for _, name := range o.jobs() {
			owner, _ := o.owner(name)
			if o.held(name) && slices.Contains(c.Configure.Nodes, lease.Node{ID: owner, Witness: true}) {
				return false
			}
		}
		return true
	case c.Grant != nil:
		witness, known := o.node(c.Grant.Node)
		return o.knows(c.Grant.Job) && c.Grant.Expect == o.epoch(c.Grant.Job) && c.Grant.Next > o.epoch(c.Grant.Job) && known && !witness &&
			!o.orders(c.Grant.Job).stopped() && !o.leaving(c.Grant.Node)
	case c.Release != nil:
		_, token := o.owner(c.Release.Job)
		return o.held(c.Release.Job) && c.Release.Epoch == o.epoch(c.Release.Job) && c.Release.Token == token
	case c.Observe != nil:
		witness, _ := o.node(c.Observe.Node)
		return o.knows(c.Observe.Job) && c.Observe.Epoch > o.epoch(c.Observe.Job) && !witness
	case c.Ask != nil:
		return o.acceptsAsk(*c.Ask)
	case c.Hold != nil:
		now := o.orders(c.Hold.Job)
		return o.knows(c.Hold.Job) && c.Hold.Order == now.number && (c.Hold.Pause != nil || now.pause != nil)
	case c.Retire != nil:
		return o.acceptsRetire(*c.Retire)
	}
	return o.remembers(c.Report.Job, c.Report.Epoch)
}

// remembers reports whether the beginning of the epoch is among the newest 200 entries.
func (o *oracle) remembers(job lease.JobName, epoch lease.Epoch) bool {
	after := 0
	for _, c := range slices.Backward(o.accepted) {
		switch {
		case c.Grant != nil && c.Grant.Job == job && c.Grant.Next == epoch, c.Observe != nil && c.Observe.Job == job && c.Observe.Epoch == epoch:
			return after < 200
		case c.Grant != nil && c.Grant.Job == job, c.Observe != nil && c.Observe.Job == job, c.Release != nil && c.Release.Job == job,
			c.Hold != nil && c.Hold.Job == job:
			after++
		}
	}
	return false
}

func (o *oracle) acceptsAsk(a lease.Ask) bool {
	if !o.knows(a.Job) || a.Epoch != o.epoch(a.Job) {
		return false
	}
	now := o.orders(a.Job)
	if a.Cancel {
		return now.plan != nil || o.wish(a.Job) != nil
	}
	if now.stopped() {
		return false
	}
	owner, _ := o.owner(a.Job)
	if a.Move.Here && (a.Move.Now || owner != a.Move.To || !o.held(a.Job)) {
		return false
	}
	if a.Move.To == "" {
		return true
	}
	witness, known := o.node(a.Move.To)
	return known && !witness && (a.Move.Here || !o.leaving(a.Move.To)) && (a.Move.Here || !(o.held(a.Job) && owner == a.Move.To))
}

func (o *oracle) acceptsRetire(r lease.Retire) bool {
	witness, known := o.node(r.Node)
	if !known || r.Undo {
		return known && o.leaving(r.Node)
	}
	for _, job := range o.jobs() {
		if owner, _ := o.owner(job); o.held(job) && owner == r.Node {
			return false
		}
	}
	others := 0
	for _, id := range []lease.NodeID{"a", "b", "t"} {
		if w, ok := o.node(id); ok && !w && id != r.Node && !o.leaving(id) {
			others++
		}
	}
	return witness || others > 0
}

// leaving looks at the last retirement since the node was last no member.
func (o *oracle) leaving(id lease.NodeID) bool {
	leaving := false
	for _, c := range o.accepted {
		switch {
		case c.Configure != nil:
			leaving = leaving && slices.ContainsFunc(c.Configure.Nodes, func(n lease.Node) bool { return n.ID == id })
		case c.Retire != nil && c.Retire.Node == id:
			leaving = !c.Retire.Undo
		}
	}
	return leaving
}

func (o *oracle) jobs() []lease.JobName {
	var names []lease.JobName
	for _, c := range o.accepted {
		if c.Configure != nil {
			names = append(names, c.Configure.Jobs...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (o *oracle) knows(job lease.JobName) bool { return slices.Contains(o.jobs(), job) }

// node looks at the last accepted configuration.
func (o *oracle) node(id lease.NodeID) (witness, known bool) {
	for _, c := range o.accepted {
		if c.Configure == nil {
			continue
		}
		witness, known = false, false
		for _, n := range c.Configure.Nodes {
			if n.ID == id {
				witness, known = n.Witness, true
			}
		}
	}
	return witness, known
}

func (o *oracle) epoch(job lease.JobName) lease.Epoch {
	top := lease.Epoch(0)
	for _, c := range o.accepted {
		if c.Grant != nil && c.Grant.Job == job {
			top = max(top, c.Grant.Next)
		}
		if c.Observe != nil && c.Observe.Job == job {
			top = max(top, c.Observe.Epoch)
		}
	}
	return top
}

func (o *oracle) owner(job lease.JobName) (lease.NodeID, lease.Token) {
	for _, c := range slices.Backward(o.accepted) {
		if c.Grant != nil && c.Grant.Job == job {
			return c.Grant.Node, c.Grant.Token
		}
		if c.Observe != nil && c.Observe.Job == job {
			return c.Observe.Node, c.Observe.Token
		}
	}
	return "", ""
}

func (o *oracle) held(job lease.JobName) bool {
	epoch := o.epoch(job)
	released := slices.ContainsFunc(o.accepted, func(c lease.Command) bool {
		return c.Release != nil && c.Release.Job == job && c.Release.Epoch == epoch
	})
	return epoch != 0 && !released
}

// orders are what operators have ordered of a job, and how often that has changed.
type orders struct {
	number uint64
	pause  *lease.Pause
	plan   *lease.Plan
}

func (o orders) stopped() bool { return o.pause != nil && o.pause.Level == "stopped" }

func (o orders) show() string {
	if o.number == 0 {
		return ""
	}
	line := fmt.Sprintf(" order %d", o.number)
	if o.pause != nil {
		line += fmt.Sprintf(" pause %+v", *o.pause)
	}
	if o.plan != nil {
		line += fmt.Sprintf(" plan %+v", *o.plan)
	}
	return line
}

func (o *oracle) orders(job lease.JobName) orders {
	var now orders
	for _, c := range o.accepted {
		switch {
		case c.Hold != nil && c.Hold.Job == job:
			now.number, now.pause = now.number+1, c.Hold.Pause
			if now.stopped() {
				now.plan = nil
			}
			continue
		case c.Ask != nil && c.Ask.Job == job && !c.Ask.Cancel && c.Ask.In > 0:
			now.number++
			now.plan = &lease.Plan{Move: c.Ask.Move, In: c.Ask.In, By: c.Ask.By, At: c.Ask.At}
			continue
		case c.Retire != nil && !c.Retire.Undo:
			if now.plan != nil && now.plan.Move.To == c.Retire.Node {
				now.number, now.plan = now.number+1, nil
			}
		case c.Ask != nil && c.Ask.Job == job, c.Grant != nil && c.Grant.Job == job, c.Observe != nil && c.Observe.Job == job:
			if now.plan != nil {
				now.number, now.plan = now.number+1, nil
			}
		}
		if c.Observe != nil && c.Observe.Job == job && now.stopped() {
			now.number, now.pause = now.number+1, nil
		}
	}
	return now
}

// wish is the last one since the epoch began, or since the job was stopped.
func (o *oracle) wish(job lease.JobName) *lease.Move {
	gone := map[lease.NodeID]bool{} // nodes that were retired after the wish
	for _, c := range slices.Backward(o.accepted) {
		switch {
		case c.Hold != nil && c.Hold.Job == job && c.Hold.Pause != nil && c.Hold.Pause.Level == "stopped":
			return nil
		case c.Ask != nil && c.Ask.Job == job && c.Ask.Cancel:
			return nil
		case c.Ask != nil && c.Ask.Job == job && c.Ask.In == 0:
			if gone[c.Ask.Move.To] {
				return nil
			}
			return &c.Ask.Move
		case c.Retire != nil && !c.Retire.Undo:
			gone[c.Retire.Node] = true
		case c.Grant != nil && c.Grant.Job == job, c.Observe != nil && c.Observe.Job == job:
			return nil
		}
	}
	return nil
}

// history is one line per entry, with the phases that were reported while the entry was kept.
func (o *oracle) history(job lease.JobName) []string {
	var lines []string
	for i, c := range o.accepted {
		switch {
		case c.Grant != nil && c.Grant.Job == job:
			g := c.Grant
			line := fmt.Sprintf("grant %d %s %s %s @%d", g.Next, g.Node, g.Cause, g.Detail, g.At)
			if g.Detect.Took > 0 {
				line += fmt.Sprintf(" %s=%s", g.Detect.Name, g.Detect.Took)
			}
			lines = append(lines, line)
		case c.Observe != nil && c.Observe.Job == job:
			lines = append(lines, fmt.Sprintf("observe %d %s forced  @%d", c.Observe.Epoch, c.Observe.Node, c.Observe.At))
		case c.Release != nil && c.Release.Job == job:
			owner, _ := (&oracle{o.accepted[:i]}).owner(job)
			lines = append(lines, fmt.Sprintf("release %d %s %s %s @%d", c.Release.Epoch, owner, c.Release.Cause, c.Release.Detail, c.Release.At))
		case c.Hold != nil && c.Hold.Job == job:
			before := &oracle{o.accepted[:i]}
			owner, _ := before.owner(job)
			kind, detail := "resume", " by "+c.Hold.By
			if p := c.Hold.Pause; p != nil {
				kind, detail = "pause", fmt.Sprintf("%s by %s: %s", p.Level, p.By, p.Reason)
			}
			lines = append(lines, fmt.Sprintf("%s %d %s %s %s @%d", kind, before.epoch(job), owner, c.Hold.Cause, detail, c.Hold.At))
		case c.Report != nil && c.Report.Job == job:
			for i, line := range lines {
				if (strings.HasPrefix(line, "grant") || strings.HasPrefix(line, "observe")) && strings.Contains(line, fmt.Sprintf(" %d ", c.Report.Epoch)) {
					for _, p := range c.Report.Phases {
						lines[i] += fmt.Sprintf(" %s=%s", p.Name, p.Took)
					}
				}
			}
		}
		if len(lines) > 200 {
			lines = lines[1:]
		}
	}
	return lines
}

// show is what the function of that name makes of the real state.
func (o *oracle) show(job lease.JobName) string {
	owner, token := o.owner(job)
	phase := "vacant"
	switch {
	case o.held(job):
		phase = "granted"
	case o.epoch(job) != 0:
		phase = "released"
	}
	line := fmt.Sprintf("%d %s %s %.4s", o.epoch(job), phase, owner, token)
	if w := o.wish(job); w != nil {
		line += fmt.Sprintf(" move %s %v %v", w.To, w.Now, w.Here)
	}
	line += o.orders(job).show()
	return strings.Join(append([]string{line}, o.history(job)...), "; ")
}

// TestOracle lets both implementations run random commands and compares every answer and every state.
func TestOracle(t *testing.T) {
	for seed := range uint64(40) {
		compare(t, seed, 120, []lease.JobName{scheduler, scheduler, etl, "ghost"})
	}
	compare(t, 1000, 1800, []lease.JobName{scheduler}) // long enough for the history to overflow
}

func compare(t *testing.T, seed uint64, steps int, jobs []lease.JobName) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	s, o := &lease.State{}, &oracle{}
	accepted := map[string]int{}
	for i := range steps {
		c := random(r, s, jobs)
		want, out := o.accepts(c), s.Apply(c)
		if out.Accepted != want {
			t.Fatalf("seed %d step %d: %s: accepted %v (%s), the oracle says %v", seed, i, c.Encode()[1:], out.Accepted, out.Why, want)
		}
		if want {
			o.accepted = append(o.accepted, c)
			accepted[strings.SplitN(string(c.Encode()), `"`, 3)[1]]++
		}
		for _, job := range o.jobs() {
			if steps > 500 && i%64 != 0 {
				continue // the list is long, and every difference stays in the history
			}
			if got, want := show(s, job), o.show(job); got != want {
				t.Fatalf("seed %d step %d: after %s\n    lease %s\n   oracle %s", seed, i, c.Encode()[1:], got, want)
			}
		}
		if r.IntN(20) == 0 {
			s = reload(t, s)
		}
	}
	if steps > 500 && (len(accepted) != 8 || len(o.history(scheduler)) < lease.HistoryCap) {
		t.Errorf("seed %d: accepted %v and %d history entries, want all eight kinds and a full history",
			seed, accepted, len(o.history(scheduler)))
	}
}

// reload goes on from a snapshot, which must make no difference.
func reload(t *testing.T, s *lease.State) *lease.State {
	t.Helper()
	restored, err := lease.DecodeSnapshot(s.Snapshot())
	if err != nil {
		t.Fatalf("own snapshot: %v", err)
	}
	return &restored
}

// random draws a command of valid form, more often than not one that the present state accepts.
func random(r *rand.Rand, s *lease.State, jobs []lease.JobName) lease.Command {
	nodes := []lease.NodeID{"a", "a", "b", "t", "z"}
	tokens := []lease.Token{tokenA, tokenA2, tokenB}
	job, node, token := jobs[r.IntN(len(jobs))], nodes[r.IntN(len(nodes))], tokens[r.IntN(len(tokens))]
	now, _ := s.Job(job)
	near := now.Epoch
	if r.IntN(4) == 0 {
		near = lease.Epoch(max(0, int64(near)+r.Int64N(5)-2))
	}
	if now.Token != "" && r.IntN(3) > 0 {
		token = now.Token
	}
	switch n := r.IntN(28); {
	case n == 0 || len(s.Jobs) == 0:
		members := []lease.Node{{ID: "t", Witness: r.IntN(8) > 0}, {ID: "b"}, {ID: "a", Witness: r.IntN(8) == 0}}
		return lease.Command{Configure: &lease.Configure{Nodes: members[:1+r.IntN(3)], Jobs: jobs[:min(len(jobs), 1+r.IntN(3))]}}
	case n < 8:
		return lease.Command{Grant: &lease.Grant{
			Job: job, Expect: near, Next: near + lease.Epoch(r.IntN(5)+1)/2, Node: node, Token: token,
			Cause: lease.CauseSilent, At: r.Int64N(100), Detect: lease.Timing{Name: "detect", Took: time.Duration(r.IntN(2))},
		}}
	case n < 14:
		return lease.Command{Release: &lease.Release{Job: job, Epoch: near, Token: token, Cause: lease.CauseHung, Detail: "d"}}
	case n < 16:
		return lease.Command{Observe: &lease.Observe{Job: job, Epoch: near + lease.Epoch(r.IntN(2)), Node: node, Token: token}}
	case n < 20:
		if r.IntN(2) == 0 {
			node = ""
		}
		return lease.Command{Ask: &lease.Ask{
			Job: job, Epoch: near, Move: lease.Move{To: node, Now: r.IntN(2) == 0, Here: r.IntN(4) == 0}, In: max(0, time.Duration(r.IntN(4)-2)),
			Cancel: r.IntN(4) == 0, By: "eve", At: r.Int64N(100),
		}}
	case n < 22:
		return lease.Command{Hold: randomHold(r, now)}
	case n < 24:
		return lease.Command{Retire: &lease.Retire{Node: node, Undo: r.IntN(2) == 0, By: "eve", At: r.Int64N(100)}}
	}
	return lease.Command{Report: &lease.Report{
		Job: job, Epoch: near, Phases: []lease.Timing{{Name: "p", Took: time.Duration(r.IntN(9))}}[:r.IntN(2)],
	}}
}

func randomHold(r *rand.Rand, now lease.Job) *lease.Hold {
	h := &lease.Hold{Job: now.Name, Order: now.Order, Cause: lease.CauseOperator, By: "eve", At: r.Int64N(100)}
	if r.IntN(4) == 0 {
		h.Order = uint64(r.IntN(3))
	}
	if r.IntN(2) == 0 {
		levels := []lease.Level{lease.PauseMoves, lease.PauseGrants, lease.PauseStopped}
		h.Pause = &lease.Pause{Level: levels[r.IntN(3)], For: time.Duration(r.IntN(2)), By: "eve", Reason: "r", At: r.Int64N(100)}
	}
	return h
}
