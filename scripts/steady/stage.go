package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

const (
	witness = "t"
	// wholeWithin is how long after the end of a trouble every node must be well again. It is a limit for being stuck.
	wholeWithin = time.Minute
)

// stage is the cluster, its metastore, and who looks at its nodes.
type stage struct {
	*probe.Stage
	eye *eye
}

func newStage(ctx context.Context) (*stage, error) {
	set, err := probe.SetUp(ctx, probe.Options{})
	if err != nil {
		return nil, err
	}
	s := &stage{Stage: set}
	if err := s.build(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *stage) build(ctx context.Context) error {
	_, err := s.Pool.Exec(ctx, `CREATE TABLE public.bystander (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`)
	if err != nil {
		return fmt.Errorf("prepare the bystander's table: %w", err)
	}
	if s.eye, err = newEye(s); err != nil {
		return err
	}
	return s.Cluster.Start()
}

// standby is the other candidate.
func standby(active string) string {
	if active == "a" {
		return "b"
	}
	return "a"
}

// whole waits until every node is well and one of them is active, and returns that one.
func (s *stage) whole(ctx context.Context) (lab.Active, error) {
	ctx, cancel := context.WithTimeout(ctx, wholeWithin)
	defer cancel()
	for {
		active, missing := s.look(ctx)
		if missing == "" {
			return active, nil
		}
		if err := lab.Pause(ctx, 200*time.Millisecond); err != nil {
			return lab.Active{}, fmt.Errorf("not whole within %s: %s", wholeWithin, missing)
		}
	}
}

// look says what the cluster lacks to be whole; empty when nothing.
func (s *stage) look(ctx context.Context) (active lab.Active, missing string) {
	status, err := s.Cluster.Status(ctx)
	if err != nil {
		return active, err.Error()
	}
	if !status.GetView().GetAuthoritative() {
		return active, status.GetView().GetReason()
	}
	for _, n := range status.GetNodes() {
		if n.GetTrouble() != "" || !n.GetConnected() || n.LastBeatAgeMs == nil || n.GetLastBeatAgeMs() > 1000 {
			return active, fmt.Sprintf("node %s: connected %v, last beat %d ms ago, trouble %q",
				n.GetName(), n.GetConnected(), n.GetLastBeatAgeMs(), n.GetTrouble())
		}
	}
	j := status.GetJobs()[0]
	states := []string{}
	for _, on := range j.GetNodes() {
		if on.GetState() == "active" && on.GetNode() == j.GetHolder() {
			active = lab.Active{Node: on.GetNode(), Epoch: j.GetEpoch()}
		}
		states = append(states, on.GetState())
	}
	slices.Sort(states)
	if active.Node == "" || !slices.Equal(states, []string{"active", "standby", "witness"}) {
		return active, fmt.Sprintf("the nodes are %v", states)
	}
	return active, ""
}
