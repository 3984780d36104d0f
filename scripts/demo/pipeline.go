package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/takeover"
)

// etlJob is the job that runs the lightning pipeline, beside the scheduler and on the same host.
const etlJob = "etl"

// The pipeline's years. The first is loaded before anything happens; the others come when the kill is about to.
const (
	firstYear, lastYear = 2015, 2018
	yearsScale          = 0.3 // of the real number of strikes
)

// dagRuns is how many runs of the pipeline's DAG that makes: one for the first year, and one for all of them.
const dagRuns = 2

// pipeline is the lightning pipeline with a connection that watches its ledger.
type pipeline struct {
	*lab.Pipeline
	ledger *pgx.Conn
	// Under what epoch, on which host and when the host was killed.
	victim lab.Active
	killed time.Time
}

// passage is what became of a pipeline whose host was killed in its middle.
type passage struct {
	From, To string
	// Before and After are the steps done under the epoch that was killed and under the next.
	Before, After int
	// Years are loaded; Runs are those of Airflow's DAG, Unfinished those of them that did not succeed.
	Years, Runs, Unfinished int
	// Resumed is from the kill to the first entry that the next epoch made in the ledger, Done to the last year's load.
	Resumed, Done time.Duration
	// Loaded is what the tables hold, Made what the generator says that it made.
	Loaded, Made lab.Totals
}

// newPipeline makes the pipeline, and returns what Airflow's workers need for its DAG.
func (s *stage) newPipeline(ctx context.Context, l *lab.Lab, a *lab.Airflow) (map[string]string, error) {
	options := lab.PipelineOptions{From: firstYear, To: lastYear, Scale: yearsScale, Airflow: a.URL}
	var err error
	if s.engine == sparkEngine {
		if options.Engine, err = lab.SparkEngine(); err != nil {
			return nil, err
		}
	}
	p, err := l.NewPipeline(ctx, a.Store(), options)
	if err != nil {
		return nil, err
	}
	s.pipeline = &pipeline{Pipeline: p}
	if err := p.AddReader(ctx); err != nil {
		return nil, err
	}
	return p.WorkerEnv(), s.pipeline.upTo(firstYear)
}

// job is the pipeline's job: where the scheduler is, every five seconds, whether there is anything new.
func (p *pipeline) job() lab.Job {
	job := p.Job()
	job.Follow, job.Schedule = takeover.Job, "@every 5s"
	return job
}

// open makes the tables and connects to them.
func (p *pipeline) open(ctx context.Context) error {
	if err := p.Init(ctx); err != nil {
		return err
	}
	var err error
	if p.ledger, err = pgx.Connect(ctx, p.Admin()); err != nil {
		return fmt.Errorf("connect to the pipeline's database: %w", err)
	}
	return nil
}

func (p *pipeline) close() error {
	if p == nil || p.ledger == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return p.ledger.Close(ctx)
}

// upTo lets the pipeline's window end with a year.
func (p *pipeline) upTo(year int) error {
	p.Options.To = year
	return p.Configure()
}

// done counts the steps that are done, under epoch and under later ones, and the years that are loaded.
func (p *pipeline) done(ctx context.Context, epoch uint64) (under, later, years int, err error) {
	err = p.ledger.QueryRow(ctx, `SELECT count(*) FILTER (WHERE epoch <= $1), count(*) FILTER (WHERE epoch > $1), count(*) FILTER (WHERE step = 'publish')
FROM duoflow.etl_chunk WHERE state = 'done'`, epoch).Scan(&under, &later, &years)
	return under, later, years, err
}

// inTheMiddle puts the other years into the pipeline's window, and returns when some of their steps are done and some are not.
func (s *stage) inTheMiddle(ctx context.Context) error {
	p := s.pipeline
	first := 0
	if err := s.await(ctx, "the first year to be loaded", func() (bool, error) {
		_, done, years, err := p.done(ctx, 0)
		first = done
		return years == 1, err
	}); err != nil {
		return err
	}
	s.say("the lightning DAG gets %d more years of synthetic tiles: BigQuery and Cloud Storage (both emulated) -> S3 -> %s -> Postgres", lastYear-firstYear, s.engine)
	if err := p.upTo(lastYear); err != nil {
		return err
	}
	return s.await(ctx, "the pipeline to be in its middle", func() (bool, error) {
		_, done, _, err := p.done(ctx, 0)
		return done > first+2, err
	})
}

// killInTheMiddle kills everything on the active host while the pipeline is in its middle there, and follows both, the scheduler's
// work and the pipeline.
func (s *stage) killInTheMiddle(ctx context.Context) (a account, p *passage, err error) {
	ctx, cancel := context.WithTimeout(ctx, 4*stuckAfter) // each task costs Airflow a second or more, and Spark starts in many
	defer cancel()
	if err := s.inTheMiddle(ctx); err != nil {
		return a, nil, err
	}
	victim, err := s.managed.Ready(ctx)
	if err != nil {
		return a, nil, err
	}
	if s.pipeline.victim, err = s.managed.Cluster.AwaitActive(ctx, etlJob, 0); err != nil {
		return a, nil, err
	}
	s.pipeline.killed = time.Now()
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() (err error) {
		a, err = s.kill(ctx, victim)
		return err
	})
	both.Go(func() (err error) {
		p, err = s.resumed(ctx)
		return err
	})
	err = both.Wait()
	return a, p, err
}

// resumed follows the pipeline from the kill to its end.
func (s *stage) resumed(ctx context.Context) (*passage, error) {
	p := s.pipeline
	a := &passage{From: p.victim.Node}
	err := s.await(ctx, "the pipeline to go on", func() (bool, error) {
		var first *time.Time
		err := p.ledger.QueryRow(ctx, `SELECT min(updated) FROM duoflow.etl_chunk WHERE epoch > $1`, p.victim.Epoch).Scan(&first)
		if first != nil {
			a.Resumed = first.Sub(p.killed)
		}
		return first != nil, err
	})
	if err != nil {
		return nil, err
	}
	now, err := s.managed.Cluster.AwaitActive(ctx, etlJob, p.victim.Epoch)
	if err != nil {
		return nil, err
	}
	a.To = now.Node
	s.say("%s goes on with the pipeline, %.0f ms after the fault", a.To, ms(a.Resumed))
	err = s.await(ctx, "all years to be loaded", func() (bool, error) {
		a.Before, a.After, a.Years, err = p.done(ctx, p.victim.Epoch)
		return a.Years == lastYear-firstYear+1, err
	})
	if err != nil {
		return nil, err
	}
	a.Done = time.Since(p.killed)
	if err := s.awaitDAG(ctx, a); err != nil {
		return nil, err
	}
	return a, s.compare(ctx, a)
}

// awaitDAG waits until no run of the pipeline's DAG is on, and counts them.
func (s *stage) awaitDAG(ctx context.Context, a *passage) error {
	return s.await(ctx, "the DAG's run to end", func() (bool, error) {
		running := 0
		err := s.world.Pool.QueryRow(ctx, `SELECT count(*), count(*) FILTER (WHERE state <> 'success'), count(*) FILTER (WHERE state IN ('queued', 'running'))
FROM dag_run WHERE dag_id = $1`, lab.PipelineDAG).Scan(&a.Runs, &a.Unfinished, &running)
		return running == 0, err
	})
}

// compare has the tables added up, by duoetl against what it stored and by the generator against what it made.
func (s *stage) compare(ctx context.Context, a *passage) error {
	if _, err := s.pipeline.Run(ctx, "verify"); err != nil {
		return err
	}
	var err error
	if a.Loaded, err = s.pipeline.Loaded(ctx, s.pipeline.ledger); err != nil {
		return err
	}
	a.Made, err = s.pipeline.Expected(ctx)
	s.say("  %d steps before the kill, %d after it, in one run of the DAG; %d strikes in %d tiles, the generator made %d in %d",
		a.Before, a.After, a.Loaded.Strikes, a.Loaded.Rows, a.Made.Strikes, a.Made.Rows)
	return err
}

// await asks until the answer is yes, and shows what the pipeline says of itself when that changes.
func (s *stage) await(ctx context.Context, what string, ask func() (bool, error)) error {
	for {
		yes, err := ask()
		if err != nil || yes {
			return err
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		s.showLine(ctx)
	}
}

// showLine shows the line that `duoctl status` has for the pipeline, at most once a second and when it is a new one.
func (s *stage) showLine(ctx context.Context) {
	if time.Since(s.lineAt) < time.Second {
		return
	}
	s.lineAt = time.Now()
	status, err := s.managed.Cluster.Status(ctx)
	if err != nil {
		return // it is asked again
	}
	for _, job := range status.GetJobs() {
		for _, on := range job.GetNodes() {
			if line := on.GetStatus(); job.GetName() == etlJob && on.GetNode() == job.GetHolder() && line != "" && line != s.line {
				s.line = line
				s.say("  etl on %s: %s", on.GetNode(), line)
			}
		}
	}
}

func (a *passage) write(out io.Writer) error {
	_, err := fmt.Fprintf(out, `lightning DAG, killed in its middle on %s               to %s
  kill to its next entry in the ledger              %6.0f ms
  kill to the last year's load                      %6.0f ms
  steps done before the kill, and after it          %6d, %d
  runs of the DAG, all of them successful           %6d of %d
  strikes of synthetic tiles loaded, made         %8d, %d
`, a.From, a.To, ms(a.Resumed), ms(a.Done), a.Before, a.After, a.Runs-a.Unfinished, a.Runs, a.Loaded.Strikes, a.Made.Strikes)
	return err
}

// wrong says what of it breaks a promise; empty when nothing does.
func (a *passage) wrong() string {
	switch {
	case a == nil:
		return "the pipeline was not tried"
	case a.Before == 0 || a.After == 0:
		return fmt.Sprintf("the pipeline was not killed in its middle: %d steps before, %d after", a.Before, a.After)
	case a.Years != lastYear-firstYear+1:
		return fmt.Sprintf("%d years are loaded, want %d", a.Years, lastYear-firstYear+1)
	case a.Runs != dagRuns || a.Unfinished > 0:
		return fmt.Sprintf("%d runs of the DAG, of which %d did not succeed; want %d and none", a.Runs, a.Unfinished, dagRuns)
	case a.Loaded != a.Made:
		return fmt.Sprintf("the tables hold %+v, the generator made %+v", a.Loaded, a.Made)
	case a.From == a.To:
		return "the pipeline went on where it was killed"
	}
	return ""
}
