package etl

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/etl/dagrun"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// airflow is the driver that has a DAG do the steps.
type airflow struct{ p *Pipeline }

// pollEvery is how often the run is looked at. A failover of this program costs the run nothing meanwhile: Airflow goes on with it.
const pollEvery = time.Second

// Run implements Driver. It lends the tasks this epoch's login before anything else: tasks of the epoch before wait for it.
func (a airflow) Run(ctx context.Context, s Selection) (Report, error) {
	began := time.Now()
	if err := a.p.target.Ready(ctx); err != nil {
		return Report{}, err
	}
	login, err := a.p.login()
	if err != nil {
		return Report{}, err
	}
	f := &follower{p: a.p, selection: s, login: login}
	if err := f.lend(ctx); err != nil {
		return Report{}, err
	}
	plan, err := a.p.Plan(ctx, s)
	if err != nil {
		return Report{}, err
	}
	f.begin(plan)
	now, ended := f.all(ctx, plan)
	report, failures := f.report(plan, now)
	report.Took = time.Since(began)
	return report, report.verdict(failures, ended)
}

// follower is one call of Run.
type follower struct {
	p         *Pipeline
	selection Selection
	login     dagrun.Login
	before    known // when it began
	gauge     *gauge
	last      dagrun.Run
	tasks     map[tile.Chunk]string // that failed in the last run
}

func (f *follower) begin(plan Plan) {
	f.before, f.gauge = plan.known, newGauge(f.p.meter, plan, plan.known)
	f.p.meter.start(len(plan.Chunks))
	for range len(plan.Chunks) - plan.Work {
		f.p.meter.finished(ChunkUnchanged)
	}
}

// all triggers runs until one of them, or a plan, leaves nothing to do that another could. The plan that it returns is the last one.
func (f *follower) all(ctx context.Context, plan Plan) (Plan, error) {
	for plan.Work > 0 {
		id := f.p.runID(plan, f.selection)
		if f.last.ID == id {
			return plan, nil // the rest has failed
		}
		run, err := f.start(ctx, id, plan)
		if err != nil {
			return plan, err
		}
		if err := f.follow(ctx, run); err != nil {
			return plan, err
		}
		again := f.selection
		again.Force = false // it was done
		if plan, err = f.p.Plan(ctx, again); err != nil {
			return plan, err
		}
	}
	return plan, nil
}

// runID names the run by what there is to make of the chunks, done or not: so the node that takes over, and finds some of them
// done, comes to the same name.
func (p *Pipeline) runID(plan Plan, s Selection) string {
	var all []objects.Input
	for _, c := range plan.Chunks {
		all = append(all, objects.Input{Name: p.publishHash(c.Chunk, c.source)})
	}
	hash := objects.Hash(fmt.Sprintf("%s force %v accept %v", p.config.Pipeline, s.Force, s.Accept), all)
	first, last := plan.Chunks[0].Chunk, plan.Chunks[len(plan.Chunks)-1].Chunk
	return fmt.Sprintf("duoflow__%s__%s-%s__%.12s", p.config.Pipeline, first, last, hash)
}

// start is the run to follow: one of this pipeline that is on, whoever began it, or the one of this name. Two never are on at a time.
func (f *follower) start(ctx context.Context, id string, plan Plan) (dagrun.Run, error) {
	active, err := f.p.dag.Active(ctx, f.p.config.Pipeline)
	if err != nil {
		return dagrun.Run{}, err
	}
	if len(active) > 0 {
		return active[0], nil
	}
	run, existed, err := f.p.dag.Trigger(ctx, id, f.conf(plan))
	if err != nil || !existed || !run.State.Ended() {
		return run, err
	}
	// It came to its end, and there is work: some of it failed, or what it made was taken away since.
	if err := f.p.dag.Again(ctx, id, run.State == dagrun.Success); err != nil {
		return run, err
	}
	return f.p.dag.Run(ctx, id)
}

func (f *follower) conf(plan Plan) dagrun.Conf {
	c := dagrun.Conf{
		Pipeline: f.p.config.Pipeline, Connection: f.p.config.Airflow.Connection, Chunks: []string{}, Force: f.selection.Force, Accept: f.selection.Accept,
	}
	for _, one := range plan.Chunks {
		if one.State != ChunkUnchanged {
			c.Chunks = append(c.Chunks, string(one.Chunk))
		}
	}
	return c
}

// lend puts the login where the tasks look, if the job is still ours.
func (f *follower) lend(ctx context.Context) error {
	if _, err := f.p.fence(ctx); err != nil {
		return err
	}
	return f.p.dag.Lend(ctx, f.p.config.Airflow.Connection, f.login)
}

// follow returns when the run has ended.
func (f *follower) follow(ctx context.Context, run dagrun.Run) error {
	f.p.log.Info("follow the DAG's run", "job", f.p.identity.Job, "epoch", f.p.identity.Epoch, "run", run.ID, "state", string(run.State))
	for !run.State.Ended() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pollEvery):
		}
		if err := f.lend(ctx); err != nil {
			return err
		}
		k, err := f.p.known(ctx)
		if err != nil {
			return err
		}
		f.gauge.show(k)
		if run, err = f.p.dag.Run(ctx, run.ID); err != nil {
			return err
		}
	}
	f.last = run
	return f.blame(ctx)
}

// blame notes which task of a chunk failed, for what the ledger says nothing about.
func (f *follower) blame(ctx context.Context) error {
	f.tasks = map[tile.Chunk]string{}
	if f.last.State == dagrun.Success {
		return nil
	}
	failed, err := f.p.dag.FailedTasks(ctx, f.last.ID)
	if err != nil {
		return err
	}
	for _, t := range failed {
		chunk := tile.Chunk("") // of all
		if t.Index >= 0 && t.Index < len(f.last.Conf.Chunks) {
			chunk = tile.Chunk(f.last.Conf.Chunks[t.Index])
		}
		f.tasks[chunk] = t.ID
	}
	return nil
}

// report compares the plan that there was with the last one, and with the ledger.
func (f *follower) report(plan, now Plan) (out Report, failures []error) {
	out.Synthetic = plan.Synthetic
	after := map[tile.Chunk]Planned{}
	for _, c := range now.Chunks {
		after[c.Chunk] = c
	}
	for _, was := range plan.Chunks {
		c := &ChunkReport{Chunk: was.Chunk, State: ChunkUnchanged, Steps: f.steps(was.Chunk, now.known)}
		held := now.known.held[was.Chunk]
		c.Rows, c.Strikes, c.Hash = held.Rows, held.Strikes, held.Hash
		c.Quarantined = now.known.ledger[ledgerKey{was.Chunk, StepLoad}].Quarantined
		out.Chunks = append(out.Chunks, c)
		switch {
		case was.State == ChunkUnchanged:
			out.Unchanged++
		case after[was.Chunk].State == ChunkUnchanged:
			c.State = ChunkDone
		case f.last.ID == "":
			c.State = "" // the run ended before
		default:
			err := f.failure(was.Chunk, now.known)
			c.State, c.Error = ChunkFailed, err.Error()
			failures = append(failures, fmt.Errorf("chunk %s: %w", was.Chunk, err))
		}
	}
	out.count()
	return out, failures
}

// steps are those that were done of a chunk since the beginning.
func (f *follower) steps(chunk tile.Chunk, now known) []StepReport {
	out := []StepReport{}
	for _, name := range Steps() {
		e := now.ledger[ledgerKey{chunk, name}]
		if e.State == warehouse.Done && e.Updated.After(f.before.ledger[ledgerKey{chunk, name}].Updated) {
			out = append(out, StepReport{Step: name, Rows: e.Rows, Took: e.Took})
		}
	}
	return out
}

// failure is why a chunk is not done: in the words of the ledger, else what Airflow says.
func (f *follower) failure(chunk tile.Chunk, now known) error {
	for _, name := range Steps() {
		e := now.ledger[ledgerKey{chunk, name}]
		if e.State == warehouse.Failed && e.Updated.After(f.before.ledger[ledgerKey{chunk, name}].Updated) {
			return fmt.Errorf("%s: %w", name, noted(e.Error))
		}
	}
	task, ok := f.tasks[chunk]
	if !ok {
		task, ok = f.tasks[""]
	}
	if !ok {
		return fmt.Errorf("the run %s did not get to it: %s", f.last.ID, f.p.dag.URL(f.last.ID))
	}
	return fmt.Errorf("task %s failed in Airflow: see its log at %s", task, f.p.dag.URL(f.last.ID))
}

// noted is an error as the ledger has kept it, in words. It is whatever error it says it is.
type noted string

func (n noted) Error() string { return string(n) }

// Is knows errors by their words.
func (n noted) Is(target error) bool { return strings.Contains(string(n), target.Error()) }
