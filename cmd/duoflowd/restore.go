package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/raftstore"
)

// defaultConfig is where the daemon's configuration is expected.
const defaultConfig = "/etc/duoflow/node.yaml"

const restoreLong = `Restore makes the data directory of a node from a file of duoctl backup, for another life of the cluster. As etcdutl snapshot restore, it is
run on the host of every node, while no daemon runs, with the same file. The first run draws the life; it prints the command for the
others. Nodes of different lives do not hear each other, so one that was forgotten, or comes back later, cannot disturb.

An epoch of the backup is never granted again, whatever the metastore has seen since: every job begins released, --skip epochs further
on, and a node is granted a job only when it has read the fence row, above which the next epoch then is. Therefore the metastore need
not be asked here. If it was restored as well, run duoctl metastore seal on it before it is opened.

A directory that is in use is never touched: move it away. Run it as root or as the daemon's user; the directory is given to whom data_dir belongs.`

// restorePlan is what restore was asked for.
type restorePlan struct {
	file, config, life string
	order              backup.Order
	dryRun, json       bool
	given              []string // flags that say how the life is to begin
}

func newRestore() *cobra.Command {
	plan, output := restorePlan{}, ""
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the data directory of a node from a backup, for another life of the cluster",
		Long:  restoreLong,
		Example: "  duoflowd restore prod.backup --dry-run\n  duoflowd restore prod.backup\n" +
			"  duoflowd restore prod.backup --life 1-6b1f0d2c8a94e357 --config /etc/duoflow/node.yaml",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) (err error) {
			if plan.json, err = asJSON(output); err != nil {
				return err
			}
			for _, flag := range []string{"life", "skip", "stopped"} {
				if cmd.Flags().Changed(flag) {
					plan.given = append(plan.given, flag)
				}
			}
			plan.file = paths[0]
			return coded(restore(cmd.Context(), cmd.OutOrStdout(), plan))
		},
	}
	flags := c.Flags()
	flags.StringVar(&plan.config, "config", defaultConfig, "configuration of the node on this host")
	flags.StringVar(&plan.life, "life", "", "the life to begin: what the first run printed, or a number above that of every life so far (default: drawn)")
	addOrder(c, &plan.order, backup.DefaultSkip)
	flags.BoolVar(&plan.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

// addOrder adds the flags that say how a life is to begin.
func addOrder(c *cobra.Command, o *backup.Order, skip uint64) {
	c.Flags().Uint64Var(&o.Skip, "skip", skip, "how many epochs of each job to leave out, for those that a database forgets which is restored too")
	c.Flags().BoolVar(&o.Stopped, "stopped", false, "begin with every job paused, until duoctl resume")
}

func restore(ctx context.Context, out io.Writer, plan restorePlan) error {
	picture, state, err := backup.Read(plan.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refusal(exitUsage, err, "check the path")
	case err != nil:
		return refusal(exitFailed, err, "use another backup")
	}
	cfg, err := loadNode(plan.config)
	if err != nil {
		return err
	}
	if cfg.Cluster != picture.Cluster {
		return refusal(exitUnsafe, fmt.Errorf("%s is of cluster %q, %s of cluster %q", plan.file, picture.Cluster, plan.config, cfg.Cluster),
			"use the configuration of a node of that cluster")
	}
	r, err := reborn(cfg, plan, picture, state)
	if err != nil {
		return err
	}
	if err := errors.Join(unused(r.dir()), ownDaemonEnded(ctx, cfg)); err != nil {
		return err
	}
	if !plan.dryRun {
		if _, err := r.found(false); err != nil {
			return err
		}
	}
	if plan.json {
		return writeJSON(out, r.answer(plan.file, !plan.dryRun))
	}
	r.write(out, !plan.dryRun)
	return nil
}

// loadNode reads the configuration as the daemon does.
func loadNode(path string) (node.Config, error) {
	cfg, err := node.LoadConfig(path)
	if err != nil {
		return cfg, &exitError{exitUsage, err}
	}
	return cfg, nil
}

// unused refuses a directory that has something in it.
func unused(dir string) error {
	names, err := os.ReadDir(dir)
	switch {
	case len(names) > 0:
		return dirUsed(dir)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at data directory: %w", err)
	}
	return nil
}

func dirUsed(dir string) error {
	return refusal(exitUnsafe, errors.New("there is a data directory already: "+dir), "stop the daemon and move it away, if it is of no use any more")
}

// ownDaemonEnded refuses while this node's daemon answers: its directory may have been moved away under it.
func ownDaemonEnded(ctx context.Context, cfg node.Config) error {
	own := slices.DeleteFunc(cfg.LogStore().Peers, func(p raftstore.Peer) bool { return p.Name != cfg.Node })
	if there := answering(ctx, own); len(there) > 0 {
		return refusal(exitUnsafe, errors.New("a daemon of this node runs: "+there[0]), "stop duoflowd on this host first")
	}
	return nil
}

// answerWithin is how long a node has to answer a knock.
const answerWithin = 2 * time.Second

// answering lists those of some nodes that somebody answers for at their addresses.
func answering(ctx context.Context, nodes []raftstore.Peer) (there []string) {
	dialer := net.Dialer{Timeout: answerWithin}
	for _, p := range nodes {
		if conn, err := dialer.DialContext(ctx, "tcp", p.Addr); err == nil {
			_ = conn.Close() // nothing was written
			there = append(there, p.Name+" at "+p.Addr)
		}
	}
	return there
}

// asJSON reads -o.
func asJSON(output string) (bool, error) {
	if output != "text" && output != "json" {
		return false, fmt.Errorf("-o %q: want text or json", output)
	}
	return output == "json", nil
}

func writeJSON(w io.Writer, answer any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(answer); err != nil {
		return fmt.Errorf("write answer: %w", err)
	}
	return nil
}

// refusal is an error with an exit code and a word on what to do.
func refusal(code int, err error, mend string) error {
	return &exitError{code, fmt.Errorf("%w; %s", err, strings.TrimSpace(mend))}
}

// coded has an error that knows no exit code end the program as a failure: exitCode takes those for cobra's.
func coded(err error) error {
	var known *exitError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &exitError{exitFailed, err}
}
