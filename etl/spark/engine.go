package spark

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/duoflow/duoflow/etl/aggregate"
)

// Engine is a Spark that starts when it is first asked, and runs until Close. Its methods are safe for concurrent use; chunks
// are added up one after the other.
type Engine struct {
	config  Config
	turn    chan struct{} // holds one token; whoever has it may use what is below
	found   *install
	session *session
}

// New checks the configuration. It neither starts Spark nor looks for it.
func New(c Config) (*Engine, error) {
	c, err := c.complete()
	if err != nil {
		return nil, err
	}
	e := &Engine{config: c, turn: make(chan struct{}, 1)}
	e.turn <- struct{}{}
	return e, nil
}

// take waits for the turn.
func (e *Engine) take(ctx context.Context) error {
	select {
	case <-e.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *Engine) give() { e.turn <- struct{}{} }

// Close ends Spark, and waits for a chunk that is at work.
func (e *Engine) Close() {
	<-e.turn
	defer e.give()
	if e.session != nil {
		e.session.finish()
		e.session = nil
	}
}

// Version implements aggregate.Engine. It looks for all that Spark needs on this machine, and starts nothing.
func (e *Engine) Version(ctx context.Context) (string, error) {
	if err := e.take(ctx); err != nil {
		return "", err
	}
	defer e.give()
	i, err := e.install(ctx)
	if err != nil {
		return "", err
	}
	if _, err := e.config.reach(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("spark %s, java %s, hadoop %s, %s", i.spark, i.jdk, i.hadoop, e.config.Master), nil
}

func (e *Engine) install(ctx context.Context) (install, error) {
	if e.found == nil {
		i, err := find(ctx, e.config)
		if err != nil {
			return i, err
		}
		e.found = &i
	}
	return *e.found, nil
}

// Aggregate implements aggregate.Engine. Inputs are files, or s3a:// URLs. A Spark that dies is started once more for the
// same chunk. Errors: ErrMissing, ErrDied, ErrStalled, ErrQuery, aggregate.ErrDiffers.
func (e *Engine) Aggregate(ctx context.Context, job aggregate.Job) (aggregate.Result, error) {
	return e.aggregate(ctx, job, e.config.Partitions)
}

// Partitioned is the same Spark with the work cut into another number of parts.
func (e *Engine) Partitioned(parts int) aggregate.Engine { return partitioned{e, parts} }

type partitioned struct {
	*Engine
	parts int
}

// Aggregate implements aggregate.Engine.
func (p partitioned) Aggregate(ctx context.Context, job aggregate.Job) (aggregate.Result, error) {
	return p.aggregate(ctx, job, p.parts)
}

func (e *Engine) aggregate(ctx context.Context, job aggregate.Job, parts int) (r aggregate.Result, err error) {
	ask, cell, err := requestOf(job, parts)
	if err != nil {
		return r, fmt.Errorf("aggregate %s: %w", job.Chunk, err)
	}
	if err := e.take(ctx); err != nil {
		return r, err
	}
	defer e.give()
	const tries = 2
	for try := 1; try <= tries; try++ {
		r, err = e.once(ctx, ask, cell, job.Note)
		if !errors.Is(err, ErrDied) || ctx.Err() != nil {
			break
		}
		if try < tries {
			e.config.Logger.Warn("spark died; it is started again", "chunk", string(job.Chunk), "err", err)
		}
	}
	if err == nil {
		err = r.Check(job.Chunk)
	}
	if err != nil {
		return aggregate.Result{}, fmt.Errorf("aggregate %s: %w", job.Chunk, err)
	}
	return r, nil
}

// once asks the Spark that runs, or a new one. After an error that is not about the question it is ended: nobody knows what it
// still does.
func (e *Engine) once(ctx context.Context, ask request, cell int, note func(string)) (aggregate.Result, error) {
	if e.session == nil {
		i, err := e.install(ctx)
		if err != nil {
			return aggregate.Result{}, err
		}
		if note != nil {
			note("spark: starting")
		}
		if e.session, err = open(ctx, e.config, i); err != nil {
			return aggregate.Result{}, err
		}
	}
	err := e.session.ask(ctx, ask, note)
	var r aggregate.Result
	if err == nil {
		r, err = readResult(e.session.file(), cell)
	}
	if err != nil && !errors.Is(err, ErrQuery) {
		e.session.kill()
		e.session = nil
	}
	return r, err
}

func requestOf(job aggregate.Job, parts int) (request, int, error) {
	texts, err := aggregate.SQL(job.CellTenths)
	if err != nil {
		return request{}, 0, err
	}
	cell := job.CellTenths
	if cell == 0 {
		cell = aggregate.DefaultCell
	}
	if len(job.Inputs) == 0 {
		return request{}, 0, errors.New("no input files")
	}
	if parts < 1 || parts > mostParts {
		return request{}, 0, fmt.Errorf("%d partitions are not within 1..%d", parts, mostParts)
	}
	r := request{Partitions: parts, Queries: []query{
		{nameTotals, texts.Totals}, {nameDay, texts.Day}, {nameMonth, texts.Month}, {nameCell, texts.Cell},
	}}
	for _, in := range job.Inputs {
		if strings.ContainsAny(in, `*?[]{}\`) {
			return request{}, 0, fmt.Errorf("%s: Spark would take that name for a pattern", in)
		}
		if !strings.Contains(in, "://") {
			if in, err = filepath.Abs(in); err != nil {
				return request{}, 0, fmt.Errorf("find input: %w", err)
			}
		}
		r.Inputs = append(r.Inputs, in)
	}
	return r, cell, nil
}
