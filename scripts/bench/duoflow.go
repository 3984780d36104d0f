package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/scripts/lab"
)

const job = "scheduler"

// The two duoflows: as it comes, and set as fast as it goes, which is how the peers are set.
const (
	ours     = "duoflow"
	oursFast = "duoflow-fast"
)

// own reports whether a system is one of the two, of which promises are kept or broken.
func own(system string) bool { return system == ours || system == oursFast }

// duoflow is three duoflowd, one of them the witness.
type duoflow struct {
	fleet
	about   About
	cluster *lab.Cluster
}

func newDuoflow(ctx context.Context, s *stage) (System, error) {
	return makeDuoflow(ctx, s, About{Name: ours, Settings: "lan", Detection: 300 * time.Millisecond})
}

func newDuoflowFast(ctx context.Context, s *stage) (System, error) {
	return makeDuoflow(ctx, s, About{Name: oursFast, Settings: "fast", Detection: 150 * time.Millisecond})
}

// makeDuoflow takes the cluster; about's settings are the detection profile, which the nodes get when they are started.
func makeDuoflow(ctx context.Context, s *stage, about About) (*duoflow, error) {
	profile := about.Settings
	about.Version, about.Settings = "this tree", "detection "+profile+", calm_window 0s"
	d := &duoflow{fleet: newFleet(s.lab), about: about}
	var err error
	if d.cluster, err = s.cluster(ctx); err != nil {
		return nil, err
	}
	for _, host := range hosts {
		node := d.cluster.Nodes[host]
		d.runs[host] = []*keeper{{start: func() (*lab.Process, error) {
			err := errors.Join(node.WriteConfig(func(c map[string]any) {
				// Without damping: the benchmark makes more failovers in a minute than a site in a year.
				c["calm_window"], c["detection"] = "0s", profile
			}), node.Start())
			return node.Process(), err
		}}}
	}
	return d, nil
}

func (d *duoflow) About() About { return d.about }

// Active waits until the witness leads, as it does in every settled cluster, and the standby could take over.
func (d *duoflow) Active(ctx context.Context) (string, error) {
	for {
		status, err := d.cluster.Status(ctx)
		if err == nil {
			if host, ok := settled(status); ok {
				return host, nil
			}
			err = fmt.Errorf("status: %v", status)
		}
		if waited := lab.Pause(ctx, 50*time.Millisecond); waited != nil {
			return "", fmt.Errorf("wait for duoflow to settle: %w; last: %w", waited, err)
		}
	}
}

func (d *duoflow) Switchover(ctx context.Context, _ string) error {
	output, code, err := d.cluster.Ctl(ctx, "switchover", "--yes", "--timeout", "10s")
	if err == nil && code != 0 {
		err = fmt.Errorf("switch over: exit code %d: %s", code, output)
	}
	return err
}

// settled names the active host of a cluster that is as it should be.
func settled(status *duoflowv1.StatusResponse) (string, bool) {
	if !status.GetView().GetAuthoritative() || status.GetLeader() != "t" {
		return "", false
	}
	for _, n := range status.GetNodes() {
		if !n.GetConnected() {
			return "", false
		}
	}
	for _, j := range status.GetJobs() {
		if j.GetName() != job || j.GetSuspectReason() != "" {
			continue
		}
		active, ready := false, false
		for _, on := range j.GetNodes() {
			active = active || on.GetNode() == j.GetHolder() && on.GetState() == "active"
			ready = ready || on.GetNode() != j.GetHolder() && on.GetEligible()
		}
		return j.GetHolder(), active && ready
	}
	return "", false
}
