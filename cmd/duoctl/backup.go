package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

const backupLong = `Backup writes what the cluster has agreed on to a file: jobs, epochs, history, pauses. A majority is asked, so it is as new as the call. The
file is written whole or not at all, and never over another one without --force. No password is in it; the reasons that operators gave
are, and the last lines of jobs that died. The exit code of --local is 6 when no majority was heard: the picture may be old, and the file
says so.

The jobs' data are in their databases, and the configuration is a file on each node: neither is in it. It needs the role operator.
duoflowd restore, on each node's host, makes another life of the cluster of it.`

func newBackup(a *app) *cobra.Command {
	var force, local bool
	cmd := &cobra.Command{
		Use:     "backup FILE",
		Short:   "Keep what the cluster has agreed on in a file",
		Long:    backupLong,
		Example: example("duoctl backup prod.backup", "duoctl backup show prod.backup -o json", "duoctl backup check prod.backup"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			return a.backup(cmd.Context(), paths[0], force, local)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace FILE if it exists")
	cmd.Flags().BoolVar(&local, "local", false, "also without a majority: what the node that answers has applied")
	cmd.AddCommand(newBackupLook(a, "show", "Show what is in a backup"), newBackupLook(a, "check", "Say whether a file is a sound backup"))
	return cmd
}

func newBackupLook(a *app, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " FILE", Short: short, Example: example("duoctl backup " + verb + " prod.backup"), Args: cobra.ExactArgs(1),
		Long: short + `. It asks no node. The exit code is 1 when the file is damaged: its sum, its form and its state are looked at.`,
		RunE: func(_ *cobra.Command, paths []string) error {
			picture, state, err := readBackup(paths[0])
			if err != nil {
				return err
			}
			answer, err := backupObject(paths[0], picture, state)
			if err != nil {
				return err
			}
			return a.print(answer, func(w io.Writer) {
				if verb == "check" {
					fmt.Fprintf(w, "%s is sound: cluster %s, index %d\n", paths[0], picture.Cluster, picture.Index)
					return
				}
				writeBackup(w, picture, state)
			})
		},
	}
}

func (a *app) backup(ctx context.Context, path string, force, local bool) error {
	if _, err := os.Lstat(path); err == nil && !force {
		return backupExists(path) // before anybody is asked
	}
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	answer, from, err := best(ctx, links, func(ctx context.Context, admin duoflowv1.AdminClient) (*duoflowv1.BackupResponse, error) {
		return admin.Backup(ctx, &duoflowv1.BackupRequest{Local: local}, grpc.MaxCallRecvMsgSize(backup.MaxBytes))
	})
	if err != nil {
		return err
	}
	picture := backup.Picture{
		Cluster: answer.GetCluster(), Life: answer.GetLife(), Node: answer.GetNode(), Version: answer.GetVersion(), Index: answer.GetIndex(),
		Term: answer.GetTerm(), At: answer.GetAtUnixMs(), Local: local, State: answer.GetState(),
	}
	if err := backup.Write(path, picture, force); errors.Is(err, fs.ErrExist) {
		return backupExists(path)
	} else if err != nil {
		return err
	}
	_, state, err := readBackup(path) // what is on disk, not what was meant to be
	if err != nil {
		return err
	}
	shown, err := backupObject(path, picture, state)
	if err != nil {
		return err
	}
	if err := a.print(shown, func(w io.Writer) {
		fmt.Fprintf(w, "%s: cluster %s as node %s knows it at index %d, %d jobs\n", path, picture.Cluster, picture.Node, picture.Index, len(state.Jobs))
	}); err != nil {
		return err
	}
	return staleness(answer.GetView(), from)
}

func backupExists(path string) error {
	return &failure{code: exitUnsafe, what: path + " exists", mend: "choose another name, or add --force"}
}

// readBackup reads a file, and says what to do about one that is of no use.
func readBackup(path string) (backup.Picture, lease.State, error) {
	picture, state, err := backup.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = usage(err.Error(), "check the path")
	case errors.Is(err, backup.ErrDamaged), errors.Is(err, backup.ErrFormat):
		err = failed(err.Error(), "use another backup")
	}
	return picture, state, err
}

func backupObject(path string, p backup.Picture, state lease.State) (object, error) {
	sum, err := p.Sum()
	if err != nil {
		return nil, err
	}
	nodes, jobs, members := []any{}, []any{}, list(p.Members)
	for _, n := range state.Nodes {
		nodes = append(nodes, object{{"name", string(n.ID)}, {"witness", n.Witness}})
	}
	for _, j := range state.Jobs {
		jobs = append(jobs, object{
			{"name", string(j.Name)}, {"epoch", uint64(j.Epoch)}, {"phase", string(j.Phase)}, {"holder", string(j.Holder)},
			{"paused", string(j.Paused())}, {"history", len(j.History)},
		})
	}
	return object{
		{"file", path}, {"cluster", p.Cluster}, {"life", p.Life}, {"begins", p.Begins}, {"members", members}, {"node", p.Node}, {"version", p.Version}, {"index", p.Index},
		{"term", p.Term}, {"at_unix_ms", p.At}, {"local", p.Local}, {"sum", sum}, {"nodes", nodes}, {"jobs", jobs},
	}, nil
}

func writeBackup(w io.Writer, p backup.Picture, state lease.State) {
	fmt.Fprintf(w, "cluster %s, life %s, as node %s (%s) knew it at index %d of term %d\n", p.Cluster, p.Life, p.Node, p.Version, p.Index, p.Term)
	fmt.Fprintf(w, "taken %s by that node's clock\n", time.UnixMilli(p.At).UTC().Format(time.RFC3339))
	if p.Local {
		fmt.Fprintln(w, "LOCAL: no majority was asked, so something newer may have been agreed on")
	}
	if p.Begins != "" {
		fmt.Fprintf(w, "life %s begins with it: duoflowd restore makes its nodes\n", p.Begins)
	}
	fmt.Fprintln(w)
	g := &grid.Grid{Head: []string{"JOB", "EPOCH", "PHASE", "HOLDER", "PAUSED", "HISTORY"}}
	for _, j := range state.Jobs {
		g.Add(string(j.Name), epochText(uint64(j.Epoch)), string(j.Phase), grid.OrDash(string(j.Holder)), grid.OrDash(string(j.Paused())),
			fmt.Sprintf("%d entries", len(j.History)))
	}
	g.Write(w)
}
