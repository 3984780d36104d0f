// Command writer is the job of the robustness run and of the steady run: it commits one row after the other with whatever
// credentials its service file holds, says which epoch it believes in, and never gives up, so that a fenced one goes on
// trying to do harm for as long as it lives. With PROBE_JOURNAL it keeps a journal of what was acknowledged in that folder.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/probe/journal"
)

const (
	// pace is the wait between two rows.
	pace = 5 * time.Millisecond
	// application marks the session in pg_stat_activity.
	application = "probe-writer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	epoch, err := strconv.ParseInt(os.Getenv("DUOFLOW_EPOCH"), 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, "writer: DUOFLOW_EPOCH:", err)
		os.Exit(2)
	}
	w := writer{node: os.Getenv("DUOFLOW_NODE"), epoch: epoch}
	if folder := os.Getenv(journal.Env); folder != "" {
		if w.journal, err = journal.Open(folder, w.node, epoch, os.Getpid()); err != nil {
			fmt.Fprintln(os.Stderr, "writer:", err)
			os.Exit(2)
		}
	}
	for ctx.Err() == nil {
		if err := w.write(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "writer:", err)
			time.Sleep(pace)
		}
	}
}

type writer struct {
	node  string
	epoch int64
	seq   int64

	journal *journal.File
}

// write connects and commits rows until something fails.
func (w *writer) write(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, "connect_timeout=2 application_name="+application)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for ctx.Err() == nil {
		w.seq++
		_, err := conn.Exec(ctx, `INSERT INTO probe(node, epoch, pid, seq) VALUES ($1, $2, $3, $4)`,
			w.node, w.epoch, os.Getpid(), w.seq)
		if err != nil {
			return err
		}
		if err := w.journal.Add(w.seq); err != nil {
			return err
		}
		time.Sleep(pace)
	}
	return nil
}
