package main

import (
	"context"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// advisory is a lock in the metastore itself; see the program of that name beside this one.
type advisory struct {
	fleet
	stage *stage
}

func newAdvisory(ctx context.Context, s *stage) (System, error) {
	program, err := s.lab.Build(ctx, "./scripts/bench/advisory")
	if err != nil {
		return nil, err
	}
	a := &advisory{newFleet(s.lab), s}
	for _, host := range hosts[:2] {
		a.add(host, func() (lab.Spec, error) {
			return lab.Spec{Name: "advisory", Env: s.env(host), Args: []string{program, s.peerDSN(), s.writer}}, nil
		})
	}
	return a, nil
}

func (a *advisory) About() About {
	return About{
		Name: "advisory", Version: "own, scripts/bench/advisory", Detection: 2 * time.Second,
		Settings: "blocking pg_advisory_lock, deadline 2 s, server drops silent clients after 3 s",
	}
}

// Active waits until one host has the lock and the other one waits for it. Which is which the database says.
func (a *advisory) Active(ctx context.Context) (string, error) {
	for {
		var held, wanted int
		err := a.stage.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE granted), count(*) FILTER (WHERE NOT granted)
			FROM pg_locks WHERE locktype = 'advisory' AND objid = 7401`).Scan(&held, &wanted)
		if err == nil && held == 1 && wanted > 0 {
			return "", nil
		}
		if waited := lab.Pause(ctx, 20*time.Millisecond); waited != nil {
			return "", fmt.Errorf("wait for the lock, held by %d and wanted by %d: %w, %w", held, wanted, waited, err)
		}
	}
}

func (a *advisory) Switchover(_ context.Context, from string) error { return a.terminate(from) }
