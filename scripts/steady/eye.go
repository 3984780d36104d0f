package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

const (
	// lookEvery is how often the nodes are asked for their metrics.
	lookEvery = 5 * time.Second
	// answerWithin bounds one answer; a node that is cut off or frozen gives none.
	answerWithin = 3 * time.Second
)

// Sample is what the nodes said of themselves at one time. Durations are in seconds.
type Sample struct {
	At     time.Time
	Leader string // "" = none of those that answered
	Term   uint64 // the highest
	// D is how long the leader would let the active node be unheard.
	D float64
	// Gaps are those between that node's beats as the leader heard them in the last ten to twenty minutes, by quantile.
	Gaps  map[string]float64 `json:",omitempty"`
	Fsync map[string]float64 // p99 of the raft log's commits, by node
}

// eye looks at the nodes' metrics.
type eye struct {
	scraper *lab.Scraper
	nodes   map[string]*lab.Node
}

func newEye(s *stage) (*eye, error) {
	scraper, err := s.Cluster.NewScraper(answerWithin)
	if err != nil {
		return nil, err
	}
	return &eye{scraper, s.Cluster.Nodes}, nil
}

// look asks all nodes at once.
func (e *eye) look(ctx context.Context, active string) Sample {
	var all sync.WaitGroup
	var mu sync.Mutex
	heard := map[string]lab.Metrics{}
	for name, node := range e.nodes {
		all.Go(func() {
			m, err := e.scraper.Ask(ctx, node)
			if err != nil {
				return // down, frozen or cut off, as it should be at times
			}
			mu.Lock()
			heard[name] = m
			mu.Unlock()
		})
	}
	all.Wait()
	return sampleOf(heard, active)
}

func sampleOf(heard map[string]lab.Metrics, active string) Sample {
	s := Sample{At: time.Now(), Fsync: map[string]float64{}, Gaps: map[string]float64{}}
	for name, m := range heard {
		s.Term = max(s.Term, uint64(m["duoflow_raft_term"]))
		s.Fsync[name] = m["duoflow_log_fsync_p99_seconds"]
		if m["duoflow_raft_leader"] != 1 {
			continue
		}
		s.Leader = name
		s.D = m[fmt.Sprintf("duoflow_detection_seconds{duoflow_job=%q,peer=%q}", probe.Job, active)]
		for _, q := range []string{"0.5", "0.99", "0.999", "1"} {
			s.Gaps[q] = m[fmt.Sprintf("duoflow_beat_gap_seconds{duoflow_job=%q,peer=%q,quantile=%q}", probe.Job, active, q)]
		}
	}
	return s
}
