package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

const (
	// pace is the time between two runs, as long as no more than enough tasks wait.
	pace   = 3 * time.Second
	enough = 12
	// askAgain is the time between two tries to trigger a run whose outcome is not known.
	askAgain = 200 * time.Millisecond
)

// feeder triggers runs by REST all the time, under ids that it keeps, and writes down which of them Airflow says exist.
type feeder struct {
	stage  *stage
	dice   *rand.Rand
	next   chan struct{}
	cancel context.CancelFunc
	joined sync.WaitGroup
	number int
	err    error // why it has ended before its time; read it after joined
}

// feed begins. The caller calls stop.
func (s *stage) feed(ctx context.Context, dice *rand.Rand) *feeder {
	f := &feeder{stage: s, dice: dice, next: make(chan struct{}, 1)}
	ctx, f.cancel = context.WithCancel(ctx)
	f.joined.Go(func() {
		if err := f.work(ctx); ctx.Err() == nil {
			f.err = err
		}
	})
	return f
}

// stop waits until the last run that was asked for is known to exist.
func (f *feeder) stop() error {
	f.cancel()
	f.joined.Wait()
	return f.err
}

// now asks for a run at once.
func (f *feeder) now() {
	select {
	case f.next <- struct{}{}:
	default: // it has been asked for already
	}
}

func (f *feeder) work(ctx context.Context) error {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		dag := chainDAG
		select {
		case <-ctx.Done():
			return nil
		case <-f.next:
		case <-ticker.C:
			// While the metastore is away nobody can tell; one run more does no harm.
			if n, err := f.stage.unfinished(ctx); err == nil && n >= enough {
				continue
			}
			dag = []string{chainDAG, chainDAG, mappedDAG, mappedDAG, longDAG}[f.dice.IntN(5)]
		}
		f.number++
		if err := f.stage.trigger(ctx, dag, fmt.Sprintf("asked-%04d", f.number)); err != nil {
			return err
		}
	}
}

// trigger asks for a run until Airflow says that it exists. The end of ctx does not cut it short, or nobody would know.
func (s *stage) trigger(ctx context.Context, dag, run string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), againWithin)
	defer cancel()
	t := Trigger{DAG: dag, Run: run, At: time.Now()}
	for !t.Acknowledged {
		t.Asked++
		err := s.Airflow.TriggerDAG(ctx, dag, run)
		t.Acknowledged = err == nil
		if err == nil {
			break
		}
		if paused := lab.Pause(ctx, askAgain); paused != nil {
			s.say("trigger run %s: %v", run, err)
			break
		}
	}
	return appendJSON(filepath.Join(s.folder, triggersName), t)
}
