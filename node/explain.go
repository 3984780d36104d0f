package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Explain tells how an epoch of a job came to be.
func (o *Operators) Explain(_ context.Context, req *duoflowv1.ExplainRequest) (*duoflowv1.ExplainResponse, error) {
	n, name := o.n, lease.JobName(req.GetJob())
	job, p := n.wire.ledger.job(name), n.snapshot()
	epoch := lease.Epoch(req.GetEpoch())
	if epoch == 0 {
		epoch = job.Epoch
	}
	t, ok := tell(job.History, epoch)
	if !ok {
		return nil, &admin.Problem{
			Kind: duoflowv1.Problem_KIND_FAILED, What: fmt.Sprintf("job %s: epoch %d is not in the history", name, epoch),
			Mend: fmt.Sprintf("`duoctl history` lists the %d newest transitions, which are all that is kept", lease.HistoryCap),
		}
	}
	t.answer.View, t.answer.Job = n.view(p), string(name)
	if epoch == job.Epoch && job.Phase == lease.Granted {
		t.now(job, p.beats[job.Holder].Jobs[name])
	}
	return t.answer, nil
}

// tale is the story of one epoch as it grows.
type tale struct {
	answer *duoflowv1.ExplainResponse
	begun  lease.Entry
	at     time.Duration // since the first sign
}

// tell tells how an epoch came to be; false when the history, oldest first, does not know.
func tell(history []lease.Entry, epoch lease.Epoch) (*tale, bool) {
	i := slices.IndexFunc(history, func(e lease.Entry) bool { return e.Kind.Begins() && e.Epoch == epoch })
	if i < 0 {
		return nil, false
	}
	t := &tale{begun: history[i], answer: &duoflowv1.ExplainResponse{
		Epoch: uint64(epoch), Node: string(history[i].Node), Cause: string(history[i].Cause), Detail: history[i].Detail,
	}}
	t.prelude(history[:i])
	t.transition()
	for _, e := range history[i+1:] {
		if e.Epoch == epoch {
			t.log(e)
		}
	}
	return t, true
}

// prelude is what the log says of the epoch before.
func (t *tale) prelude(history []lease.Entry) {
	for i, e := range slices.Backward(history) {
		if !e.Kind.Begins() {
			continue
		}
		t.answer.Before, t.answer.From = uint64(e.Epoch), string(e.Node)
		history = history[i+1:]
		break
	}
	for _, e := range history {
		t.log(e)
	}
}

// log is a step that stands in the log but has no place in the measurement.
func (t *tale) log(e lease.Entry) {
	step := &duoflowv1.TimelineStep{Name: string(e.Kind), Node: string(e.Node), What: reason(e), AtUnixMs: e.At, Index: e.Index}
	if e.Kind == lease.KindRelease {
		step.What = fmt.Sprintf("%s has nothing of epoch %d left: %s", e.Node, e.Epoch, reason(e))
	}
	t.answer.Steps = append(t.answer.Steps, step)
}

// measured is a step of the measurement.
func (t *tale) measured(name string, by lease.NodeID, took time.Duration, what string, args ...any) *duoflowv1.TimelineStep {
	at := t.at.Seconds() * 1000
	t.at += took
	step := &duoflowv1.TimelineStep{
		Name: name, Node: string(by), AtMs: &at, TookMs: took.Seconds() * 1000, What: fmt.Sprintf(what, args...),
	}
	t.answer.Steps = append(t.answer.Steps, step)
	return step
}

func (t *tale) remark(format string, args ...any) {
	t.answer.Remarks = append(t.answer.Remarks, fmt.Sprintf(format, args...))
}

// now remarks on what the holder said last, when that is not that the job runs.
func (t *tale) now(job lease.Job, said control.Report) {
	switch {
	case said.State == "":
		t.remark("whether it is running is not known: %s was not heard", job.Holder)
	case said.State != control.Active:
		t.remark("it is not running yet: %s is %s", job.Holder, said.State)
	case said.Epoch != job.Epoch:
		t.remark("it is not running yet, as far as is known: %s was heard last under epoch %d", job.Holder, said.Epoch)
	}
}

// transition is what the two nodes have measured, put one after the other.
func (t *tale) transition() {
	phases, whole := split(t.begun.Phases)
	took := map[string]time.Duration{}
	var sum time.Duration
	for _, p := range phases {
		took[p.Name], sum = p.Took, sum+p.Took
	}
	t.signal(took)
	t.agreement(took)
	t.takeover(took)
	if whole == 0 {
		t.remark("the whole is not known: the raft leader changed meanwhile, or it is not over yet")
		return
	}
	t.at = whole
	t.measured("running", t.begun.By, 0, "%s hears that %s runs the job under epoch %d", t.begun.By, t.begun.Node, t.begun.Epoch)
	t.answer.WholeMs, t.answer.UnaccountedMs = whole.Seconds()*1000, (whole-sum).Seconds()*1000
	t.remark("fence to start are measured by %s, the others by %s, whose clocks are not compared: %s of the whole is in no step",
		t.begun.Node, t.begun.By, (whole - sum).Round(100*time.Microsecond))
}

// signal is the first sign that the epoch before was over, and what was made of it.
func (t *tale) signal(took map[string]time.Duration) {
	by := t.begun.By
	switch {
	case took["detect"] > 0:
		t.measured("signal", by, took["detect"], "the last that was heard of the holder")
	case took[phaseStop] > 0:
		t.measured("signal", by, took[phaseStop], "an operator's wish is in the log, and the holder stops the job")
	case took[phaseWait] > 0:
		t.measured("signal", by, took[phaseWait], "the log says that nobody runs the job, and it is granted again when it may be")
	}
	t.measured("decision", by, 0, "%s", reason(t.begun))
}

func (t *tale) agreement(took map[string]time.Duration) {
	what := "a majority agrees that epoch %d is %s's"
	if t.begun.Kind == lease.KindObserve {
		what = "the log catches up: epoch %d is %s's, by the fence alone"
	}
	step := t.measured(string(t.begun.Kind), t.begun.By, took["grant"], what, t.begun.Epoch, t.begun.Node)
	step.AtUnixMs, step.Index = t.begun.At, t.begun.Index
}

// takeover is what the new holder did.
func (t *tale) takeover(took map[string]time.Duration) {
	for _, phase := range []struct{ name, what string }{
		{"fence", "the fence row and the role of the epoch are committed; older roles may do nothing more"},
		{"drain", "no session of an older epoch can commit any more"},
		{"adopt", "what dead lives have left is handed over"},
		{"start", "one process life has got the credentials, and goes"},
	} {
		if d, ok := took[phase.name]; ok {
			t.measured(phase.name, t.begun.Node, d, "%s", phase.what)
		}
	}
}
