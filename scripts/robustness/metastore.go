package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// metastoreTroubles happen to Postgres. The job need not move because of them, and may.
var metastoreTroubles = []trouble{
	{name: "metastore-restart", where: onMetastore, instant: true, begin: restartMetastore},
	{name: "metastore-immediate", where: onMetastore, instant: true, begin: immediately},
	{name: "metastore-kill", where: onMetastore, begin: killMetastore},
	{name: "postmaster-kill", where: onMetastore, begin: killPostmaster},
	{name: "postmaster-freeze", where: onMetastore, begin: freezePostmaster},
	{name: "backend-kill-job", where: onMetastore, instant: true, begin: signalBackend(jobsBackend, syscall.SIGKILL)},
	{name: "backend-kill-fence", where: onMetastore, instant: true, begin: signalBackend(fencesBackend, syscall.SIGKILL)},
	{name: "backend-freeze-job", where: onMetastore, begin: signalBackend(jobsBackend, syscall.SIGSTOP)},
	{name: "backend-freeze-fence", where: onMetastore, begin: signalBackend(fencesBackend, syscall.SIGSTOP)},
	{name: "failover-synchronous", where: onMetastore, instant: true, begin: failOver(lossless)},
	{name: "failover-asynchronous", where: onMetastore, instant: true, begin: failOver(lossy)},
	{name: "failover-without-fence", where: onMetastore, instant: true, alone: true, begin: failOver(fenceless)},
}

func restartMetastore(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	return nil, s.Store.Restart(ctx)
}

// immediately ends the server as `pg_ctl stop -m immediate` does: it has to recover as after a crash.
func immediately(ctx context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	if err := signal(s.Store.PID(), syscall.SIGQUIT); err != nil {
		return nil, err
	}
	return nil, s.restartStore(ctx)
}

func killMetastore(_ context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	return s.Store.Restart, s.Store.Kill()
}

// killPostmaster kills the first process alone; the sessions' end when they see it.
func killPostmaster(_ context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	return s.restartStore, signal(s.Store.PID(), syscall.SIGKILL)
}

// restartStore starts a server that ends, or has ended, in disorder: not before the last session lets go of its memory.
func (s *stage) restartStore(ctx context.Context) error {
	var err error
	for range 50 {
		if err = s.Store.Restart(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		if err := lab.Pause(ctx, settleFor/10); err != nil {
			return err
		}
	}
	return err
}

// freezePostmaster stops the first process: sessions go on, nobody can log in.
func freezePostmaster(_ context.Context, s *stage, _ *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
	pid := s.Store.PID()
	return func(context.Context) error { return signal(pid, syscall.SIGCONT) }, signal(pid, syscall.SIGSTOP)
}

const (
	jobsBackend   = `SELECT pid FROM pg_stat_activity WHERE application_name = 'probe-writer' ORDER BY backend_start DESC LIMIT 1`
	fencesBackend = `SELECT pid FROM pg_stat_activity WHERE usename = 'fencer_' || $1 ORDER BY backend_start LIMIT 1`
)

// signalBackend sends a signal to one of the server's sessions; a stopped one goes on when it is mended.
func signalBackend(query string, what syscall.Signal) beginning {
	return func(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) (func(context.Context) error, error) {
		var args []any
		if query == fencesBackend {
			args = append(args, n.Name)
		}
		var pid int
		err := s.Pool.QueryRow(ctx, query, args...).Scan(&pid)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, errMissed
		}
		if err != nil {
			return nil, fmt.Errorf("find a session: %w", err)
		}
		return func(context.Context) error { return signal(pid, syscall.SIGCONT) }, signal(pid, what)
	}
}
