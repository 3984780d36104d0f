package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
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
which duoflowd restore makes the other nodes. Stop the daemon first. With several nodes left look with --dry-run on each, and recover
the one with the highest index; the others are made anew with the file.

What the nodes that are gone had agreed on among themselves is lost: who held a job last, pauses, plans, history. No row in any job's
database is: the fence row says what the last epoch was, and the next is above it. Nodes of the life before that come back are not
heard, and once the new life has taken a fence, they cannot take it.

It refuses a directory that may have forgotten something itself (then restore a backup), and one whose other nodes answer. The old
directory is kept beside the new one.`

// recoverPlan is what recover was asked for.
type recoverPlan struct {
	config, out  string
	order        backup.Order
	dryRun, json bool
}

func newRecover() *cobra.Command {
	plan, output := recoverPlan{}, ""
	c := &cobra.Command{
		Use:     "recover --out FILE",
		Short:   "Begin another life of the cluster with one node that is left, when a majority is gone for good",
		Long:    recoverLong,
		Example: "  duoflowd recover --dry-run\n  duoflowd recover --out recovered.backup",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if plan.json, err = asJSON(output); err != nil {
				return err
			}
			if plan.out == "" && !plan.dryRun {
				return errors.New("--out is missing: name the file to write for the other nodes, or look with --dry-run")
			}
			return coded(recoverNode(cmd.Context(), cmd.OutOrStdout(), plan))
		},
	}
	flags := c.Flags()
	flags.StringVar(&plan.config, "config", defaultConfig, "configuration of the node on this host, with the nodes of the new life")
	flags.StringVar(&plan.out, "out", "", "where to write the file for the other nodes")
	addOrder(c, &plan.order, 1)
	flags.BoolVar(&plan.dryRun, "dry-run", false, "say what would be done and what is lost, and do nothing")
	flags.StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

func recoverNode(ctx context.Context, out io.Writer, plan recoverPlan) error {
	cfg, err := loadNode(plan.config)
	if err != nil {
		return err
	}
	remains, picture, state, err := survey(cfg)
	if err != nil {
		return err
	}
	if err := othersAreGone(ctx, cfg, remains.Members); err != nil {
		return err
	}
	r, err := reborn(cfg, restorePlan{file: plan.out, order: plan.order}, picture, state)
	if err != nil {
		return err
	}
	r.others = "duoflowd restore " + plan.out
	moved := ""
	if !plan.dryRun {
		if moved, err = r.recover(plan.out); err != nil {
			return err
		}
	}
	if plan.json {
		return writeJSON(out, recoverAnswer{
			restoreAnswer: r.answer(plan.out, !plan.dryRun),
			LogEnds:       remains.Last, AgreedUpTo: remains.Commit, Term: remains.Term, LifeBefore: remains.Life.String(), Kept: moved,
			MembersBefore: namesIn(remains.Members),
		})
	}
	r.writeRecover(grid.Printable{W: out}, remains, plan.out, moved)
	return nil
}

// recover writes the file first: once the directory is of the new life, the other nodes can be made from nothing else.
func (r rebirth) recover(file string) (moved string, err error) {
	if err := backup.Write(file, r.picture, false); errors.Is(err, fs.ErrExist) {
		return "", refusal(exitUnsafe, err, "name another file")
	} else if err != nil {
		return "", err
	}
	moved, err = r.found(true)
	switch {
	case err != nil && moved == "":
		return "", fmt.Errorf("%w (%s is written and of no use)", err, file)
	case err != nil:
		return "", fmt.Errorf("life %s begins in %s, and the directory of before is %s, but %w", r.life, r.dir(), moved, err)
	}
	return moved, nil
}

// survey reads what is left, and refuses what cannot be relied on.
func survey(cfg node.Config) (raftstore.Remains, backup.Picture, lease.State, error) {
	remains, err := raftstore.Salvage(cfg.LogStore())
	if err == nil && remains.Doubt != "" {
		err = errors.New("this directory may have forgotten what it promised: " + remains.Doubt)
	}
	if err == nil && remains.Last == 0 {
		err = errors.New("this node was never added to the cluster: its log is empty")
	}
	if err != nil {
		return remains, backup.Picture{}, lease.State{}, unreliable(cfg, err)
	}
	state, err := backup.Replay(remains.Snapshot, func(yield func(uint64, []byte) bool) {
		for _, c := range remains.Commands {
			if !yield(c.Index, c.Data) {
				return
			}
		}
	})
	if err != nil {
		return remains, backup.Picture{}, state, fmt.Errorf("read what is left: %w", err)
	}
	return remains, backup.Picture{
		Cluster: cfg.Cluster, Life: remains.Life.String(), Node: cfg.Node, Version: programVersion(), Index: remains.Last, Term: remains.Term,
		At: newestAt(state), Local: true, State: state.Snapshot(),
	}, state, nil
}

// unreliable says what to do about a directory that cannot be recovered.
func unreliable(cfg node.Config, err error) error {
	switch {
	case errors.Is(err, raftstore.ErrRunning):
		return refusal(exitUnsafe, err, "stop duoflowd on this host first")
	case errors.Is(err, raftstore.ErrForeignDir):
		return refusal(exitUnsafe, err, "use the configuration that this node ran with")
	case errors.Is(err, fs.ErrNotExist):
		return refusal(exitFailed, errors.New("there is nothing to recover in "+cfg.LogStore().Dir), "recover another node, or restore a backup")
	}
	return refusal(exitUnsafe, err, "recover another node, or restore a backup")
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

// othersAreGone refuses while another node's daemon answers: what it knows would be lost for nothing. The log may know of some that joined
// since the configuration was written.
func othersAreGone(ctx context.Context, cfg node.Config, logged raftstore.Roster) error {
	var others []raftstore.Peer
	for _, p := range slices.Concat(cfg.LogStore().Peers, logged.Members) {
		known := slices.ContainsFunc(others, func(o raftstore.Peer) bool { return o.Name == p.Name && o.Addr == p.Addr })
		if p.Name != cfg.Node && !known {
			others = append(others, p)
		}
	}
	there := answering(ctx, others)
	if len(there) == 0 {
		return nil
	}
	return refusal(exitUnsafe, errors.New("other nodes answer: "+strings.Join(there, ", ")),
		"if a majority lives nothing is to be recovered; else stop these daemons first")
}

// recoverAnswer is what recover tells programs.
type recoverAnswer struct {
	restoreAnswer
	LogEnds    uint64 `json:"log_ends"`
	AgreedUpTo uint64 `json:"agreed_up_to"`
	Term       uint64 `json:"term"`
	LifeBefore string `json:"life_before"`
	Kept       string `json:"kept"` // the directory of before
	// MembersBefore are those that the log has; empty: those of a configuration.
	MembersBefore []string `json:"members_before"`
}

func namesIn(list raftstore.Roster) []string {
	names := []string{}
	for _, m := range list.Members {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names
}

// writeRecover says what is left, and, when the directory of before was moved away, what to do next.
func (r rebirth) writeRecover(w io.Writer, remains raftstore.Remains, file, moved string) {
	fmt.Fprintf(w, "node %s of cluster %s, life %s: its log ends at index %d of term %d; up to %d it knows that a majority agreed\n",
		r.cfg.Node, r.cfg.Cluster, remains.Life, remains.Last, remains.Term, remains.Commit)
	fmt.Fprintf(w, "life %s begins with all of it; what was agreed on after index %d without this node is lost\n", r.life, remains.Last)
	if before := namesIn(remains.Members); len(before) > 0 && !slices.Equal(before, r.picture.Members) {
		fmt.Fprintf(w, "the nodes were %s; life %s begins with those of the configuration: %s\n",
			strings.Join(before, ", "), r.life, strings.Join(r.picture.Members, ", "))
	}
	fmt.Fprintln(w)
	g := &grid.Grid{Head: []string{"JOB", "EPOCH", "HOLDER", "NEWEST ENTRY", "NEXT EPOCH ABOVE", "PAUSED"}}
	for i, j := range r.before.Jobs {
		newest := grid.Dash
		if n := len(j.History); n > 0 {
			newest = fmt.Sprintf("%s, %s", j.History[n-1].Kind, time.UnixMilli(j.History[n-1].At).UTC().Format(time.RFC3339))
		}
		after := r.after.Jobs[i]
		g.Add(string(j.Name), epochWord(j.Epoch), grid.OrDash(string(j.Holder)), newest, epochWord(after.Epoch), grid.OrDash(string(after.Paused())))
	}
	g.Write(w)
	if moved == "" {
		return
	}
	fmt.Fprintf(w, "\ndone; the directory of before is %s\n", moved)
	fmt.Fprintf(w, "1. copy %s to the hosts of %s, and there: %s\n", file, strings.Join(r.otherNodes(), ", "), r.others)
	fmt.Fprintf(w, "2. start every daemon; duoctl status shows life %s\n", r.life)
	fmt.Fprintln(w, "3. see to it that the disks of the nodes that are gone are not started again")
}
