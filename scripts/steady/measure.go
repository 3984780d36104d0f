package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// commit is one committed row of the job.
type commit struct {
	life life
	at   time.Time
}

// life is one process of the job.
type life struct {
	Node  string
	Epoch uint64
	PID   int
}

// Spread describes the gaps between commits. Durations are in seconds.
type Spread struct {
	Commits             int
	P50, P99, P999, Max float64
	// MaxAt is when the longest began.
	MaxAt time.Time
}

// window is the part of the run that counts, on the metastore's clock.
type window struct{ from, to time.Time }

// spread measures the gaps between sorted instants, and those to the ends of the window.
func (w window) spread(at []time.Time) Spread {
	gaps := w.gaps(at)
	s := Spread{Commits: len(at)}
	slices.SortFunc(gaps, func(a, b gap) int { return cmp.Compare(a.took, b.took) })
	pick := func(rest int) float64 { return gaps[len(gaps)-1-rest].took.Seconds() }
	s.P50, s.P99, s.P999, s.Max = pick(len(gaps)/2), pick(len(gaps)/100), pick(len(gaps)/1000), pick(0)
	s.MaxAt = gaps[len(gaps)-1].from
	return s
}

// gap is a time without a commit.
type gap struct {
	from time.Time
	took time.Duration
}

func (w window) gaps(at []time.Time) []gap {
	gaps := make([]gap, 0, len(at)+1)
	last := w.from
	for _, t := range append(slices.Clone(at), w.to) {
		gaps = append(gaps, gap{last, t.Sub(last)})
		last = t
	}
	return gaps
}

// Stall is a time above the bound in which the job committed nothing.
type Stall struct {
	At     time.Time
	Job    float64 // seconds
	Others float64 // the bystander's longest gap that overlaps it; seconds
}

// excused: the bystander was stopped too, so it was the metastore or the machine.
func (s Stall) excused() bool { return 2*s.Others >= s.Job }

// stalls lists the job's gaps above a bound, each with what the bystander saw of it.
func (w window) stalls(job, others []time.Time, bound time.Duration) []Stall {
	var stalls []Stall
	beside := w.gaps(others)
	for _, g := range w.gaps(job) {
		if g.took <= bound {
			continue
		}
		s := Stall{At: g.from, Job: g.took.Seconds()}
		for _, o := range beside {
			if o.from.Before(g.from.Add(g.took)) && o.from.Add(o.took).After(g.from) {
				s.Others = max(s.Others, o.took.Seconds())
			}
		}
		stalls = append(stalls, s)
	}
	return stalls
}

// lives lists the processes that committed, in the order of their first commit.
func lives(commits []commit) []life {
	var all []life
	for _, c := range commits {
		if !slices.Contains(all, c.life) {
			all = append(all, c.life)
		}
	}
	return all
}

func instants(commits []commit) []time.Time {
	at := make([]time.Time, len(commits))
	for i, c := range commits {
		at[i] = c.at
	}
	return at
}

// commits reads the job's rows of a window by Postgres's own commit times.
func (s *stage) commits(ctx context.Context, w window) ([]commit, error) {
	rows, err := s.Pool.Query(ctx, `
		SELECT node, epoch, pid, committed FROM (SELECT *, pg_xact_commit_timestamp(xmin) AS committed FROM public.probe) AS p
		WHERE committed BETWEEN $1 AND $2 ORDER BY committed`, w.from, w.to)
	if err != nil {
		return nil, fmt.Errorf("read commits: %w", err)
	}
	defer rows.Close()
	var all []commit
	for rows.Next() {
		var c commit
		if err := rows.Scan(&c.life.Node, &c.life.Epoch, &c.life.PID, &c.at); err != nil {
			return nil, fmt.Errorf("read commits: %w", err)
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

// bystander reads when the bystander committed.
func (s *stage) bystander(ctx context.Context, w window) ([]time.Time, error) {
	rows, err := s.Pool.Query(ctx, `
		SELECT at FROM (SELECT pg_xact_commit_timestamp(xmin) AS at FROM public.bystander) AS b
		WHERE at BETWEEN $1 AND $2 ORDER BY at`, w.from, w.to)
	if err != nil {
		return nil, fmt.Errorf("read the bystander's commits: %w", err)
	}
	defer rows.Close()
	var all []time.Time
	for rows.Next() {
		var at time.Time
		if err := rows.Scan(&at); err != nil {
			return nil, fmt.Errorf("read the bystander's commits: %w", err)
		}
		all = append(all, at)
	}
	return all, rows.Err()
}
