package main

import (
	"context"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// advisory is a lock in the metastore itself; see the program of that name beside this one.
type advisory struct{ fleet }

func newAdvisory(ctx context.Context, s *stage) (System, error) {
	program, err := s.compile(ctx, "advisory")
	if err != nil {
		return nil, err
	}
	a := &advisory{newFleet(s.lab)}
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

// Active has nothing to wait for: the lock is in the database, where the judge looks anyway.
func (a *advisory) Active(context.Context) (string, error) { return "", nil }

func (a *advisory) Switchover(_ context.Context, from string) error { return a.terminate(from) }
