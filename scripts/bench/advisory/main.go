// Command advisory is the elector that people write themselves: whoever holds a Postgres advisory lock runs a command.
// It is one of the peers of the benchmark, written to be as good as such a program can be without fencing: it waits in
// the server instead of polling, lets the server drop a dead host's session after 3 s (TCP keepalive), gives up when
// the server does not answer for 2 s, kills the command with all its children before it lets the lock go, and restarts
// a dead command.
//
//	advisory DSN COMMAND [ARGS...]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	lockKey  = 7401
	deadline = 2 * time.Second        // a server that is silent for so long is lost
	beat     = 250 * time.Millisecond // between two looks at the server
	again    = 100 * time.Millisecond // before the next try, and before a dead command is restarted
)

var errLost = errors.New("the lock is lost")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: advisory DSN COMMAND [ARGS...]")
		os.Exit(2)
	}
	for ctx.Err() == nil {
		if err := elect(ctx, os.Args[1], os.Args[2:]); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "advisory:", err)
			time.Sleep(again)
		}
	}
}

// elect waits for the lock and runs the command for as long as it is held.
func elect(ctx context.Context, dsn string, command []string) error {
	conn, err := connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		_ = conn.Close(closing) // the lock goes with the session
	}()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lockKey); err != nil {
		return fmt.Errorf("take lock: %w", err)
	}
	for ctx.Err() == nil {
		if err := hold(ctx, conn, command); err != nil {
			return err
		}
		time.Sleep(again)
	}
	return nil
}

func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read DSN: %w", err)
	}
	config.ConnectTimeout = deadline
	for name, value := range map[string]string{
		"application_name": "bench-elector", "tcp_keepalives_idle": "1", "tcp_keepalives_interval": "1",
		"tcp_keepalives_count": "2", "tcp_user_timeout": "3000",
	} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// hold runs the command once. nil: it has ended by itself; an error: the lock is lost or in doubt. Nothing of the
// command lives when it returns.
func hold(ctx context.Context, conn *pgx.Conn, command []string) error {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start command: %w", err)
	}
	watch, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stopped := context.AfterFunc(watch, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stopped()
	var watching sync.WaitGroup
	var asked error
	watching.Go(func() {
		asked = look(watch, conn)
		cancel(errLost)
	})
	_ = cmd.Wait() // whatever ended it, the children have to go too
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	lost := watch.Err() != nil
	cancel(nil)
	watching.Wait()
	if lost {
		return fmt.Errorf("stop command: %w", errors.Join(context.Cause(watch), asked))
	}
	return nil
}

// look asks the server again and again, and returns when it does not answer or ctx ends.
func look(ctx context.Context, conn *pgx.Conn) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(beat):
		}
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
		err := conn.Ping(asking)
		cancel()
		if err != nil {
			return fmt.Errorf("ask server: %w", err)
		}
	}
}
