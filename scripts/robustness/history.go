package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/scripts/history"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

const (
	// historyName is what the clients asked and were told, an operation each line.
	historyName = "history.jsonl"
	// askPace is the mean time between two operations of one client.
	askPace = 150 * time.Millisecond
	// judgeWithin bounds the search for an order of the operations of one window; it is a limit for being stuck.
	judgeWithin = 30 * time.Second
)

var historyTroubles = []trouble{
	{name: "asked-from-everywhere", where: onActive, moves: may, longest: usualHold, begin: askFromEverywhere},
}

// askFromEverywhere has clients on all hosts ask at once to have the job moved.
func askFromEverywhere(_ context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	s.asked.Asking(true)
	return func(context.Context) error {
		s.asked.Asking(false)
		return nil
	}, nil
}

// prepareHistory sets a client to work on each host and on the machine itself: who has the job?
func prepareHistory(ctx context.Context, s *stage) (func() error, error) {
	var conns []*grpc.ClientConn
	closeAll := func() error {
		var errs []error
		for _, conn := range conns {
			errs = append(errs, conn.Close())
		}
		return errors.Join(errs...)
	}
	cfg := history.Config{
		Job: probe.Job, Candidates: []string{"a", "b"}, File: filepath.Join(s.out.path, historyName), Seed: 1, Pace: askPace,
	}
	for _, from := range []string{"a", "b", witness, lab.Hub} {
		var endpoints []history.Endpoint
		for _, node := range append([]string{from}, nodeNames...) {
			if node == lab.Hub || len(endpoints) > 0 && node == from {
				continue
			}
			conn, err := s.Cluster.Dial(from, node)
			if err != nil {
				return closeAll, err
			}
			conns = append(conns, conn)
			endpoints = append(endpoints, history.Endpoint{Node: node, Admin: duoflowv1.NewAdminClient(conn)})
		}
		cfg.Clients = append(cfg.Clients, endpoints)
	}
	var err error
	if s.asked, err = history.New(cfg); err != nil {
		return closeAll, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var joined sync.WaitGroup
	joined.Go(func() { err = s.asked.Run(running) })
	return func() error {
		cancel()
		joined.Wait()
		return errors.Join(err, closeAll())
	}, nil
}

// moveBy has duoctl ask for a move, and says in the history that somebody did.
func (s *stage) moveBy(ctx context.Context, args ...string) (text string, code int, err error) {
	s.asked.Foreign(func() history.Outcome {
		text, code, err = s.Cluster.Ctl(ctx, args...)
		switch {
		case err != nil:
			return history.Unknown
		case code == 0:
			return history.Done
		case code == 2, code == 3, code == 4, code == 6: // of duoctl, for what is refused and will not come true
			return history.Refused
		}
		return history.Unknown
	})
	return text, code, err
}

// checkHistory judges what the clients were told.
func checkHistory(folder string) (wrong []string, err error) {
	all, err := history.ReadFile(filepath.Join(folder, historyName))
	if err != nil {
		return nil, err
	}
	v := history.Judge(all, judgeWithin)
	for _, w := range v.Wrong {
		wrong = append(wrong, "history: "+w)
	}
	for _, w := range v.Undecided {
		wrong = append(wrong, fmt.Sprintf("history: not judged within %s: %s", judgeWithin, w))
	}
	if v.Reads == 0 {
		wrong = append(wrong, "history: no read was answered, so it proves nothing")
	}
	return wrong, nil
}
