package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/scripts/lab"
)

const job = "scheduler"

var hosts = []string{"a", "b", "t"}

// watched is a process to be measured.
type watched struct {
	name    string
	own     bool // a daemon of ours, which the limits are for
	process *lab.Process
}

// stage is what runs.
type stage struct {
	lab     *lab.Lab
	cluster *lab.Cluster
	watched []watched
}

func newStage(ctx context.Context, o options) (*stage, error) {
	s := &stage{}
	if err := s.build(ctx, o); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) build(ctx context.Context, o options) error {
	var err error
	if s.lab, err = lab.Up(ctx, lab.Options{Hosts: hosts}); err != nil {
		return err
	}
	if !s.lab.Net.Real() {
		return lab.ErrNoCut
	}
	store, err := s.lab.StartMetastore(ctx, nil)
	if err != nil {
		return err
	}
	s.cluster, err = s.lab.NewCluster(ctx, store, lab.ClusterOptions{
		Detection: o.detection,
		Jobs:      map[string]lab.Job{job: {Kind: "command", Command: []string{"/bin/sleep", "infinity"}}},
	})
	if err != nil {
		return err
	}
	if err := s.cluster.Start(); err != nil {
		return err
	}
	active, err := s.settled(ctx)
	if err != nil {
		return err
	}
	for _, host := range hosts {
		role := "standby"
		switch host {
		case "t":
			role = "witness"
		case active:
			role = "active"
		}
		s.watched = append(s.watched, watched{"duoflowd " + role, true, s.cluster.Nodes[host].Process()})
	}
	if !o.peers {
		return nil
	}
	return errors.Join(s.startEtcd(ctx), s.startTicker(ctx))
}

// settleWithin bounds the start of a cluster.
const settleWithin = time.Minute

// settled waits until the witness leads and both others stand as they should, and names the active one.
func (s *stage) settled(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for {
		status, err := s.cluster.Status(ctx)
		if err == nil {
			if host, ok := atRest(status); ok {
				return host, nil
			}
			err = fmt.Errorf("status: %v", status)
		}
		if waited := lab.Pause(ctx, 100*time.Millisecond); waited != nil {
			return "", fmt.Errorf("wait for the cluster to settle: %w; last: %w", waited, err)
		}
	}
}

func atRest(status *duoflowv1.StatusResponse) (active string, ok bool) {
	if !status.GetView().GetAuthoritative() || status.GetLeader() != "t" {
		return "", false
	}
	for _, j := range status.GetJobs() {
		up, ready := false, false
		for _, on := range j.GetNodes() {
			up = up || on.GetNode() == j.GetHolder() && on.GetState() == "active"
			ready = ready || on.GetNode() != j.GetHolder() && on.GetEligible()
		}
		if j.GetName() == job && up && ready {
			return j.GetHolder(), true
		}
	}
	return "", false
}

// await waits, and fails when a process that is watched ends meanwhile.
func (s *stage) await(ctx context.Context, d time.Duration) error {
	if err := lab.Pause(ctx, d); err != nil {
		return err
	}
	for _, w := range s.watched {
		if w.process.Ended() {
			return fmt.Errorf("%s has ended: %w", w.name, errors.Join(w.process.Err(), errors.New("see its log")))
		}
	}
	return nil
}

// startTicker starts the least a Go program can do 20 times a second.
func (s *stage) startTicker(ctx context.Context) error {
	path, err := s.lab.Build(ctx, "./scripts/idle/ticker")
	if err != nil {
		return err
	}
	p, err := s.lab.Host("t").Start(lab.Spec{Name: "ticker", Args: []string{path}})
	if err != nil {
		return err
	}
	s.watched = append(s.watched, watched{"bare 50 ms ticker in Go", false, p})
	return nil
}

func (s *stage) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.lab != nil {
		if err := s.lab.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "idle:", err) // what is left is cleaned up at the next start
		}
	}
}
