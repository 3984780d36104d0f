// Command writer is the job of the benchmark: it and a child of its own each commit a row every 5 ms, say under which
// incarnation, and never give up, so that one who has lost its right goes on for as long as it lives. The same program
// runs under every system.
//
// The incarnation is DUOFLOW_EPOCH where that is set, otherwise the next value of a sequence in the same database: the
// peers have no such number, and a sequence orders their starts without any clock. The database is BENCH_DSN, or what
// the environment of libpq says.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// pace is the wait between two rows.
	pace = 5 * time.Millisecond
	// patience is how long a statement or a connection may take before the connection is given up.
	patience = 2 * time.Second
	// application marks the sessions of writers in pg_stat_activity.
	application = "bench-writer"
	// childEnv holds the incarnation in a child's environment.
	childEnv = "BENCH_CHILD_OF"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	config, err := pgx.ParseConfig(os.Getenv("BENCH_DSN"))
	if err != nil {
		return fmt.Errorf("read database: %w", err)
	}
	config.RuntimeParams["application_name"] = application
	config.ConnectTimeout = patience
	w := writer{config: config, node: os.Getenv("BENCH_NODE"), role: "child"}
	if w.node == "" {
		w.node = os.Getenv("DUOFLOW_NODE")
	}
	if parent := os.Getenv(childEnv); parent != "" {
		if w.epoch, err = strconv.ParseInt(parent, 10, 64); err != nil {
			return fmt.Errorf("read incarnation: %w", err)
		}
		w.work(ctx)
		return nil
	}
	w.role = "main"
	if err := w.number(ctx); err != nil {
		return err
	}
	return w.withChild(ctx)
}

// withChild writes beside a child, which it ends before it ends itself in order. Killed, it leaves the child behind.
func (w *writer) withChild(ctx context.Context) error {
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childEnv, w.epoch))
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return fmt.Errorf("start child: %w", err)
	}
	w.work(ctx)
	_ = child.Process.Signal(syscall.SIGTERM) // it may have been told already
	return child.Wait()
}

type writer struct {
	config *pgx.ConnConfig
	node   string
	role   string
	epoch  int64
	seq    int64
}

// number finds out which incarnation this is.
func (w *writer) number(ctx context.Context) error {
	var err error
	if text := os.Getenv("DUOFLOW_EPOCH"); text != "" {
		if w.epoch, err = strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Errorf("read incarnation: %w", err)
		}
		return nil
	}
	for ctx.Err() == nil {
		if err = w.draw(ctx); err == nil {
			return nil
		}
		time.Sleep(pace)
	}
	return fmt.Errorf("draw incarnation: %w", err)
}

func (w *writer) draw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, w.config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.QueryRow(ctx, "SELECT nextval('public.incarnation')").Scan(&w.epoch)
}

func (w *writer) work(ctx context.Context) {
	for ctx.Err() == nil {
		if err := w.write(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "writer: %s %d: %v\n", w.role, w.epoch, err)
			time.Sleep(pace)
		}
	}
}

// write connects and commits rows until something fails.
func (w *writer) write(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, w.config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for ctx.Err() == nil {
		w.seq++
		if err := w.commit(ctx, conn); err != nil {
			return err
		}
		time.Sleep(pace)
	}
	return nil
}

func (w *writer) commit(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := conn.Exec(ctx, `INSERT INTO public.probe(node, epoch, pid, seq, role) VALUES ($1, $2, $3, $4, $5)`,
		w.node, w.epoch, os.Getpid(), w.seq, w.role)
	return err
}
