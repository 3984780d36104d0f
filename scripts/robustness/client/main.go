// Command client writes beside the job, on a host of the cluster: with the newest credentials that this host has, if it has
// any, and with a session that it has, for as long as it lasts. What was acknowledged goes into a journal, as the job's does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/probe/journal"
)

// pace is the wait between two rows, and between two looks for credentials.
const pace = 20 * time.Millisecond

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: client NODE FOLDER-OF-LIVES JOURNAL")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c := client{node: os.Args[1], lives: os.Args[2], journal: os.Args[3]}
	for ctx.Err() == nil {
		if err := c.visit(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "client:", err)
		}
		time.Sleep(pace)
	}
}

type client struct {
	node, lives, journal string
	seq                  int64
}

// epochOf reads the epoch from a role's name.
var epochOf = regexp.MustCompile(`_e(\d+)$`)

// visit logs in and commits rows until something fails.
func (c *client) visit(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(c.lives, "*", "service"))
	if err != nil || len(files) == 0 {
		return err
	}
	config, err := pgx.ParseConfig("service=duoflow servicefile=" + files[len(files)-1] + " connect_timeout=2")
	if err != nil {
		return err
	}
	m := epochOf.FindStringSubmatch(config.User)
	if m == nil {
		return errors.New("no role of an epoch: " + config.User)
	}
	epoch, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	acknowledged, err := journal.Open(c.journal, c.node, epoch, -os.Getpid()-1000)
	if err != nil {
		return err
	}
	defer func() { _ = acknowledged.Close() }()
	return c.fill(ctx, conn, epoch, acknowledged)
}

func (c *client) fill(ctx context.Context, conn *pgx.Conn, epoch int64, acknowledged *journal.File) error {
	for ctx.Err() == nil {
		c.seq++
		if _, err := conn.Exec(ctx, `INSERT INTO probe(node, epoch, pid, seq) VALUES ($1, $2, $3, $4)`,
			c.node, epoch, acknowledged.PID(), c.seq); err != nil {
			return err
		}
		if err := acknowledged.Add(c.seq); err != nil {
			return err
		}
		time.Sleep(pace)
	}
	return nil
}
