package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

const recoverLong = `Recover is for the day on which a majority of the nodes is gone for good: their disks, not only their power. It makes of the data directory of
one that is left the beginning of another life of the cluster, as etcd --force-new-cluster and Consul's peers.json do, and a file from
which duoctl restore makes the other nodes. Stop the daemon first. With several nodes left look with --dry-run on each, and recover
the one with the highest index; the others are made anew with the file.

What the nodes that are gone had agreed on among themselves is lost: who held a job last, pauses, plans, history. No row in any job's
database is: the fence row says what the last epoch was, and the next is above it. Nodes of the life before that come back are not
heard, and once the new life has taken a fence, they cannot take it.

It refuses a directory that may have forgotten something itself (then restore a backup), and one whose other nodes answer. The old
directory is kept beside the new one.`

// recoverPlan is what recover was asked for.
type recoverPlan struct {
	config, data, out    string
	skip                 uint64
	stopped, dryRun, yes bool
}

func newRecover(a *app) *cobra.Command {
	plan := recoverPlan{}
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Make a cluster of one node that is left, when a majority is gone for good",
		Long:  recoverLong,
		Example: example("duoctl recover --node-config /etc/duoflow/node.yaml --dry-run",
			"duoctl recover --node-config /etc/duoflow/node.yaml --out recovered.backup"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.recover(cmd.Context(), plan) },
	}
	flags := cmd.Flags()
	flags.StringVar(&plan.config, "node-config", defaultNodeConfig, "configuration of the node on this host, with the nodes of the new life")
	flags.StringVar(&plan.data, "data", "", "the node's data_dir (default: that of its configuration)")
	flags.StringVar(&plan.out, "out", "", "where to write the file for the other nodes")
	flags.Uint64Var(&plan.skip, "skip", 1, "how many epochs of each job to leave out; more if its database was restored as well")
	flags.BoolVar(&plan.stopped, "stopped", false, "begin with every job paused, until duoctl resume")
	flags.BoolVar(&plan.dryRun, "dry-run", false, "say what would be done and what is lost, and do nothing")
	flags.BoolVarP(&plan.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) recover(ctx context.Context, plan recoverPlan) error {
	if plan.out == "" && !plan.dryRun {
		return usage("--out is missing: where to write the file for the other nodes", "name a file, or look with --dry-run")
	}
	cfg, err := loadNode(plan.config, plan.data)
	if err != nil {
		return err
	}
	remains, picture, state, err := a.survey(cfg)
	if err != nil {
		return err
	}
	if err := othersAreGone(ctx, cfg); err != nil {
		return err
	}
	restored := restorePlan{file: plan.out, skip: plan.skip, stopped: plan.stopped, given: func(string) bool { return false }}
	r, err := reborn(cfg, restored, picture, state)
	if err != nil {
		return err
	}
	r.told = true // by the file that is written
	if plan.dryRun {
		return a.print(recoverObject(r, remains, plan, ""), func(w io.Writer) { writeRecover(w, r, remains) })
	}
	if !plan.yes {
		writeRecover(grid.Printable{W: a.err}, r, remains)
		if err := a.confirm(ctx, fmt.Sprintf("begin life %s with what node %s has?", r.life, cfg.Node)); err != nil {
			return err
		}
	}
	if err := writeBackupFile(plan.out, r.picture, false); err != nil {
		return err
	}
	moved, err := r.found(true)
	if err != nil {
		return fmt.Errorf("%w (%s is written and of no use)", err, plan.out)
	}
	return a.print(recoverObject(r, remains, plan, moved), func(w io.Writer) {
		writeRecover(w, r, remains)
		fmt.Fprintf(w, "\ndone; the directory of before is %s\n", moved)
		fmt.Fprintf(w, "1. copy %s to the hosts of %s, and there: %s\n", plan.out,
			strings.Join(without(r.picture.Members, cfg.Node), ", "), r.others(restored))
		fmt.Fprintf(w, "2. start every daemon; duoctl status shows life %s\n", r.life)
		fmt.Fprintln(w, "3. see to it that the disks of the nodes that are gone are not started again")
	})
}

// survey reads what is left, and refuses what cannot be relied on.
func (a *app) survey(cfg node.Config) (raftstore.Remains, backup.Picture, lease.State, error) {
	var picture backup.Picture
	remains, err := raftstore.Salvage(cfg.LogStore())
	switch {
	case errors.Is(err, raftstore.ErrRunning):
		err = &failure{code: exitUnsafe, what: err.Error(), mend: "stop duoflowd on this host first"}
	case errors.Is(err, fs.ErrNotExist):
		err = failed("there is nothing to recover in "+cfg.LogStore().Dir, "recover another node, or restore a backup")
	case errors.Is(err, raftstore.ErrForeignDir):
		err = &failure{code: exitUnsafe, what: err.Error(), mend: "use the configuration that this node ran with"}
	case err != nil:
		err = &failure{code: exitUnsafe, what: err.Error(), mend: "recover another node, or restore a backup"}
	case remains.Doubt != "":
		err = &failure{
			code: exitUnsafe, what: "this directory may have forgotten what it promised: " + remains.Doubt,
			mend: "recover another node, or restore a backup",
		}
	}
	if err != nil {
		return remains, picture, lease.State{}, err
	}
	state, err := backup.Replay(remains.Snapshot, func(yield func(uint64, []byte) bool) {
		for _, c := range remains.Commands {
			if !yield(c.Index, c.Data) {
				return
			}
		}
	})
	if err != nil {
		return remains, picture, state, fmt.Errorf("read what is left: %w", err)
	}
	return remains, backup.Picture{
		Cluster: cfg.Cluster, Life: remains.Life.String(), Node: cfg.Node, Version: ownVersion(), Index: remains.Last, Term: remains.Term,
		At: newestAt(state), Local: true, State: state.Snapshot(),
	}, state, nil
}

// newestAt is when the newest thing in a state happened, by the clock of who proposed it: the file must not depend on this host's.
func newestAt(state lease.State) (at int64) {
	for _, j := range state.Jobs {
		for _, e := range j.History {
			at = max(at, e.At)
		}
	}
	return at
}

// answerWithin is how long another node has to answer a knock.
const answerWithin = 2 * time.Second

// othersAreGone refuses while another node's daemon answers: what it knows would be lost for nothing.
func othersAreGone(ctx context.Context, cfg node.Config) error {
	dialer := net.Dialer{Timeout: answerWithin}
	var there []string
	for _, p := range cfg.LogStore().Peers {
		if p.Name == cfg.Node {
			continue
		}
		conn, err := dialer.DialContext(ctx, "tcp", p.Addr)
		if err == nil {
			conn.Close()
			there = append(there, fmt.Sprintf("%s at %s", p.Name, p.Addr))
		}
	}
	if len(there) == 0 {
		return nil
	}
	return &failure{
		code: exitUnsafe, what: "other nodes answer: " + strings.Join(there, ", "),
		mend: "if a majority lives nothing is to be recovered; else stop these daemons first",
	}
}

func recoverObject(r rebirth, remains raftstore.Remains, plan recoverPlan, moved string) object {
	o := r.object(restorePlan{file: plan.out, given: func(string) bool { return false }}, moved != "")
	return append(o, object{
		{"log_ends", remains.Last}, {"agreed_up_to", remains.Commit}, {"term", remains.Term}, {"life_before", remains.Life.String()}, {"kept", moved},
	}...)
}

func writeRecover(w io.Writer, r rebirth, remains raftstore.Remains) {
	fmt.Fprintf(w, "node %s of cluster %s, life %s: its log ends at index %d of term %d; up to %d it knows that a majority agreed\n",
		r.cfg.Node, r.cfg.Cluster, remains.Life, remains.Last, remains.Term, remains.Commit)
	fmt.Fprintf(w, "life %s begins with all of it; what was agreed on after index %d without this node is lost\n\n", r.life, remains.Last)
	g := &grid.Grid{Head: []string{"JOB", "EPOCH", "HOLDER", "NEWEST ENTRY", "NEXT EPOCH ABOVE", "PAUSED"}}
	for i, j := range r.before.Jobs {
		newest := grid.Dash
		if n := len(j.History); n > 0 {
			newest = fmt.Sprintf("%s, %s", j.History[n-1].Kind, time.UnixMilli(j.History[n-1].At).UTC().Format(time.RFC3339))
		}
		after := r.after.Jobs[i]
		g.Add(string(j.Name), epochText(uint64(j.Epoch)), grid.OrDash(string(j.Holder)), newest, epochText(uint64(after.Epoch)),
			grid.OrDash(string(after.Paused())))
	}
	g.Write(w)
}
