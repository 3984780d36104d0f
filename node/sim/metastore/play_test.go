package metastore_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

const slots = 6

// op is one step of a sequence.
type op struct {
	kind    string
	slot    int
	login   metastore.Login
	request metastore.Request
}

func (o op) String() string {
	text := fmt.Sprintf("%s slot %d", o.kind, o.slot)
	if o.kind == opOpen {
		text += fmt.Sprintf(" as %s, password %s, application %s, options %q, slow %t", o.login.Role, o.login.Password, o.login.Application, o.login.As, o.login.Slow)
	}
	for _, statement := range o.request {
		text += fmt.Sprintf(" %s %s", strings.TrimPrefix(fmt.Sprintf("%T", statement), "metastore."), script.sql(statement))
	}
	return text
}

// script spells operations for a person to read: a session is its PID in the model, a pause waits for lock 0.
var script = words{
	version: 16, process: func(pid metastore.PID) uint32 { return uint32(pid) },
	verify: func(password string) string { return password }, pause: func() uint64 { return 0 },
}

// The kinds of operations that are not statements.
const (
	opOpen   = "open"
	opAnswer = "answer"
	opSend   = "send"
	opExpire = "expire"
	opHangup = "hangup"
	opFreeze = "freeze"
	opThaw   = "thaw"
	opStop   = "stop"
	opCrash  = "crash"
)

// action is what a play is made of: an operation, or a step of a backend.
type action struct {
	op   *op
	step metastore.PID
}

// seat is what a slot's client knows.
type seat struct {
	pid    metastore.PID // 0 = nobody
	sent   int           // the last request, 0 = the login
	last   metastore.Statement
	reply  metastore.Reply
	heard  bool // reply is the answer to sent
	closed bool
	frozen bool
}

// play is one way in which the model may have gone. It is remade from its history to try another.
type play struct {
	config  metastore.Config
	history []action
	server  *metastore.Server
	seats   [slots]seat
}

func newPlay(config metastore.Config, first metastore.Row) *play {
	p := &play{config: config, server: metastore.New(config)}
	pid := p.server.Open(metastore.Login{Role: metastore.Bootstrap, Password: config.Password})
	p.server.Send(pid, metastore.Request{metastore.Insert{Table: metastore.FenceTable, Row: first}})
	p.server.Hangup(pid)
	for p.server.Runnable() != nil {
		p.server.Step(pid)
	}
	p.server.Replies()
	return p
}

func (p *play) fork() *play {
	q := newPlay(p.config, metastore.Row{Key: job})
	for _, a := range p.history {
		q.do(a)
	}
	return q
}

func (p *play) do(a action) {
	p.history = append(p.history, a)
	if a.op != nil {
		p.perform(*a.op)
	} else {
		p.server.Step(a.step)
	}
	p.listen()
}

func (p *play) listen() {
	for _, r := range p.server.Replies() {
		for i := range p.seats {
			s := &p.seats[i]
			if s.pid != r.PID {
				continue
			}
			if r.Closed {
				s.closed = true
			}
			if r.Notice == "" && r.Request == s.sent && !s.heard {
				s.reply, s.heard = r, true
			}
		}
	}
}

func (p *play) perform(o op) {
	s := &p.seats[o.slot]
	switch o.kind {
	case opOpen:
		*s = seat{pid: p.server.Open(o.login)}
	case opAnswer:
		p.server.Answer(s.pid)
	case opExpire:
		p.server.Expire(s.pid)
	case opHangup:
		p.server.Hangup(s.pid)
		*s = seat{}
	case opFreeze:
		s.frozen = true
		p.server.Freeze(s.pid)
	case opThaw:
		s.frozen = false
		p.server.Thaw(s.pid)
	case opStop, opCrash:
		p.restart(o.kind == opCrash)
	default:
		s.sent, s.heard, s.last = p.server.Send(s.pid, o.request), false, o.request[len(o.request)-1]
	}
}

// restart waits for nobody, so it takes what frozen backends there are along.
func (p *play) restart(crash bool) {
	if crash {
		p.server.Crash(false)
	} else {
		p.server.Stop()
		for pids := p.server.Runnable(); len(pids) > 0; pids = p.server.Runnable() {
			p.server.Step(pids[0])
		}
	}
	p.server.Start()
}

// settled are all plays that this one may become while nothing is done from outside: each backend runs until it has to wait, and
// the order is any.
func (p *play) settled() []*play {
	var out []*play
	seen := map[string]bool{}
	for todo := []*play{p}; len(todo) > 0; {
		q := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		pids := q.server.Runnable()
		for len(pids) == 1 {
			q.do(action{step: pids[0]})
			pids = q.server.Runnable()
		}
		if len(pids) == 0 {
			if text := q.view() + q.server.String(); !seen[text] {
				seen[text] = true
				out = append(out, q)
			}
			continue
		}
		for _, pid := range pids {
			next := q.fork()
			for slices.Contains(next.server.Runnable(), pid) {
				next.do(action{step: pid})
			}
			if text := next.view() + next.server.String() + fmt.Sprint(next.server.Runnable()); !seen[text] {
				seen[text] = true
				todo = append(todo, next)
			}
		}
	}
	return out
}

// view is what can be seen of the model from outside, in the same words as of the real server.
func (p *play) view() string {
	var out strings.Builder
	activity := map[metastore.PID]metastore.Activity{}
	for _, a := range p.server.Activity() {
		activity[a.PID] = a
	}
	for i, s := range p.seats {
		a, there := activity[s.pid]
		line := slotLine{there: there && a.Listed, state: a.State, paused: a.Paused}
		if !s.frozen {
			for _, pid := range a.BlockedBy {
				line.blockers = append(line.blockers, p.slotOf(pid))
			}
		}
		if s.pid != 0 && s.heard {
			line.code, line.value = string(s.reply.Code), p.value(s.last, s.reply.Value)
		} else if s.pid != 0 {
			line.code = "none"
		}
		if line.code != "" {
			line.value = ""
		}
		out.WriteString(line.text(i))
		delete(activity, s.pid)
	}
	orphans := 0
	for _, a := range activity {
		if a.Listed {
			orphans++
		}
	}
	fmt.Fprintf(&out, "orphans %d\n", orphans)
	for _, name := range []string{metastore.FenceTable, work} {
		if p.server.Locked(name) {
			fmt.Fprintf(&out, "%s locked\n", name)
		} else {
			fmt.Fprintf(&out, "%s %v\n", name, p.server.Rows(name))
		}
	}
	out.WriteString(rolesText(p.server))
	fmt.Fprintf(&out, "prepared %v\n", p.server.Prepared())
	return out.String()
}

func (p *play) locked() bool { return p.server.Locked(metastore.FenceTable) || p.server.Locked(work) }

func rolesText(s *metastore.Server) string {
	var lines []string
	for _, r := range s.Roles() {
		lines = append(lines, fmt.Sprintf("role %s login=%t inherit=%t createrole=%t", r.Name, r.Login, r.Inherit, r.CreateRole))
	}
	for _, m := range s.Memberships() {
		if s.Version() < 16 {
			m.Inherit, m.Set = false, false
		}
		lines = append(lines, fmt.Sprintf("member %s in %s by %s admin=%t inherit=%t set=%t", m.Member, m.Group, m.Grantor, m.Admin, m.Inherit, m.Set))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func (p *play) slotOf(pid metastore.PID) int {
	for i, s := range p.seats {
		if s.pid == pid && pid != 0 {
			return i
		}
	}
	return -1
}

// value words what a request answered.
func (p *play) value(statement metastore.Statement, value any) string {
	if _, warned := statement.(metastore.RevokeRole); warned {
		return "" // a real client gets a warning in words
	}
	switch v := value.(type) {
	case metastore.Taken:
		return fmt.Sprintf("%s %d %s %s %d", v.Outcome, v.Row.Epoch, v.Row.Node, v.Row.Token, v.HighestRole)
	case metastore.Left:
		return fmt.Sprintf("%t %v %v", v.Holds, p.slotsOf(v.Remain), v.Prepared)
	case metastore.Health:
		return fmt.Sprintf("%d %s %s %d", v.Row.Epoch, v.Row.Node, v.Row.Token, v.HighestRole)
	case []metastore.PID:
		return fmt.Sprint(p.slotsOf(v))
	case []metastore.Row:
		return fmt.Sprint(v)
	case int, bool:
		return fmt.Sprint(v)
	}
	return ""
}

func (p *play) slotsOf(pids []metastore.PID) []int {
	var out []int
	for _, pid := range pids {
		out = append(out, p.slotOf(pid))
	}
	slices.Sort(out)
	return out
}

// slotLine is what can be seen of one client and its session.
type slotLine struct {
	there    bool
	state    string
	paused   bool
	blockers []int
	code     string // of the last request: "none" = no answer yet
	value    string
}

func (l slotLine) text(slot int) string {
	if !l.there {
		return fmt.Sprintf("slot %d: nobody, last answer %q %s\n", slot, l.code, l.value)
	}
	slices.Sort(l.blockers)
	return fmt.Sprintf("slot %d: %s paused=%t blocked by %v, last answer %q %s\n", slot, l.state, l.paused, l.blockers, l.code, l.value)
}
