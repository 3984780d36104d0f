package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// defaultNodeConfig is where duoflowd looks for its configuration.
const defaultNodeConfig = "/etc/duoflow/node.yaml"

const restoreLong = `Restore makes the data directory of a node from a backup, for another life of the cluster: as etcdctl snapshot restore does, it is run on
the host of every node, while no daemon runs, with the same file. The first run draws the life; it prints the command for the others.
Nodes of different lives do not hear each other, so one that was forgotten, or comes back later, cannot disturb.

An epoch of the backup is never granted again, whatever the metastore has seen since: every job begins released, --skip epochs further
on, and a node is granted a job only when it has read the fence row, above which the next epoch then is. Therefore the metastore need
not be asked here. If it was restored as well, run duoctl metastore seal on it before it is opened.

A directory that is in use is never touched: move it away.`

// restorePlan is what restore was asked for.
type restorePlan struct {
	file, config, data, life string
	skip                     uint64
	stopped, dryRun, yes     bool
	given                    func(flag string) bool
}

func newRestore(a *app) *cobra.Command {
	plan := restorePlan{}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the data directory of a node from a backup, for another life of the cluster",
		Long:  restoreLong,
		Example: example("duoctl restore prod.backup --node-config /etc/duoflow/node.yaml --dry-run",
			"duoctl restore prod.backup --node-config /etc/duoflow/node.yaml --life 1-6b1f0d2c8a94e357 --yes"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			plan.file, plan.given = paths[0], cmd.Flags().Changed
			return a.restore(cmd.Context(), plan)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&plan.config, "node-config", defaultNodeConfig, "configuration of the node on this host")
	flags.StringVar(&plan.data, "data", "", "the node's data_dir (default: that of its configuration)")
	flags.StringVar(&plan.life, "life", "", "the life to begin: what the first run printed, or a number above that of every life so far (default: drawn)")
	flags.Uint64Var(&plan.skip, "skip", backup.DefaultSkip, "how many epochs to leave out, for those granted since the backup")
	flags.BoolVar(&plan.stopped, "stopped", false, "begin with every job paused, until duoctl resume")
	flags.BoolVar(&plan.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVarP(&plan.yes, "yes", "y", false, "do not ask")
	return cmd
}

// rebirth is what a node is made from.
type rebirth struct {
	cfg     node.Config
	picture backup.Picture // begins a life
	life    raftstore.Life
	before  lease.State // as it was taken
	after   lease.State // as the life begins
	told    bool        // the file itself says which life begins
}

func (a *app) restore(ctx context.Context, plan restorePlan) error {
	picture, state, err := readBackup(plan.file)
	if err != nil {
		return err
	}
	cfg, err := loadNode(plan.config, plan.data)
	if err != nil {
		return err
	}
	if cfg.Cluster != picture.Cluster {
		return &failure{
			code: exitUnsafe, what: fmt.Sprintf("%s is of cluster %q, %s of cluster %q", plan.file, picture.Cluster, plan.config, cfg.Cluster),
			mend: "use the configuration of a node of that cluster",
		}
	}
	r, err := reborn(cfg, plan, picture, state)
	if err != nil {
		return err
	}
	if err := unused(cfg.LogStore().Dir); err != nil {
		return err
	}
	if plan.dryRun {
		return a.print(r.object(plan, false), func(w io.Writer) { r.write(w, plan, false) })
	}
	if !plan.yes {
		r.write(grid.Printable{W: a.err}, plan, false)
		if err := a.confirm(ctx, fmt.Sprintf("make node %s of life %s in %s?", cfg.Node, r.life, cfg.DataDir)); err != nil {
			return err
		}
	}
	if _, err := r.found(false); err != nil {
		return err
	}
	return a.print(r.object(plan, true), func(w io.Writer) { r.write(w, plan, true) })
}

// loadNode reads a node's configuration as duoflowd does, with another data directory if one is named.
func loadNode(path, data string) (node.Config, error) {
	cfg, err := node.LoadConfig(path)
	if err != nil {
		return cfg, usage(err.Error(), "duoflowd --config "+path+" --check says the same")
	}
	if data != "" {
		if cfg.DataDir, err = filepath.Abs(data); err != nil {
			return cfg, fmt.Errorf("find data directory: %w", err)
		}
	}
	return cfg, nil
}

// reborn decides on the life and its beginning.
func reborn(cfg node.Config, plan restorePlan, picture backup.Picture, before lease.State) (rebirth, error) {
	r := rebirth{cfg: cfg, picture: picture, before: before, told: picture.Begins != ""}
	members := membersOf(cfg)
	var err error
	if picture.Begins == "" {
		order := backup.Order{Skip: plan.skip, Stopped: plan.stopped, Members: members}
		if r.life, err = chooseLife(picture, order, plan.life); err != nil {
			return r, err
		}
		if r.picture, err = picture.Begin(r.life.String(), order); err != nil {
			return r, err
		}
	} else {
		for _, flag := range []string{"life", "skip", "stopped"} {
			if plan.given(flag) {
				return r, usage(fmt.Sprintf("--%s: it is decided already how life %s begins", flag, picture.Begins), "leave it out")
			}
		}
		if r.life, err = raftstore.ParseLife(picture.Begins); err != nil {
			return r, failed(fmt.Sprintf("%s: %v", plan.file, err), "use another backup")
		}
	}
	if !slices.Equal(r.picture.Members, members) {
		return r, &failure{
			code: exitUnsafe, what: fmt.Sprintf("life %s has the nodes %s, the configuration names %s",
				r.life, strings.Join(r.picture.Members, ", "), strings.Join(members, ", ")),
			mend: "give every node the same list of nodes",
		}
	}
	_, r.after, err = decodeAgain(r.picture)
	return r, err
}

func decodeAgain(p backup.Picture) (backup.Picture, lease.State, error) {
	text, err := p.Encode()
	if err != nil {
		return p, lease.State{}, err
	}
	return backup.Decode(text)
}

func membersOf(cfg node.Config) []string {
	var names []string
	for name := range cfg.Nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// chooseLife draws a life, or takes the one that another node's restore has drawn. The end of its id says what it begins with.
func chooseLife(p backup.Picture, o backup.Order, asked string) (raftstore.Life, error) {
	mark, err := p.Mark(o)
	if err != nil {
		return raftstore.Life{}, err
	}
	before, err := raftstore.ParseLife(p.Life)
	if err != nil {
		return raftstore.Life{}, failed(err.Error(), "use another backup")
	}
	number := before.Number + 1
	if strings.Contains(asked, "-") {
		life, err := raftstore.ParseLife(asked)
		switch {
		case err != nil:
			return life, usage("--life: "+err.Error(), "copy it from what the first restore printed")
		case !strings.HasSuffix(life.ID, mark):
			return life, &failure{
				code: exitUnsafe, what: fmt.Sprintf("life %s was begun with another file, another list of nodes, or another --skip or --stopped", life),
				mend: "use the same ones as on the first node",
			}
		}
		return life, nil
	}
	if asked != "" {
		if number, err = strconv.ParseUint(asked, 10, 32); err != nil || number <= before.Number {
			return raftstore.Life{}, usage(fmt.Sprintf("--life %q is no number above %d", asked, before.Number), "duoctl status shows the life of a cluster")
		}
	}
	var drawn [4]byte
	_, _ = rand.Read(drawn[:]) // never fails: it ends the program instead
	return raftstore.ParseLife(fmt.Sprintf("%d-%s%s", number, hex.EncodeToString(drawn[:]), mark))
}

// unused refuses a directory that has something in it.
func unused(dir string) error {
	names, err := os.ReadDir(dir)
	switch {
	case len(names) > 0:
		return dirUsed(dir)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at data directory: %w", err)
	}
	return nil
}

func dirUsed(dir string) error {
	return &failure{code: exitUnsafe, what: "there is a data directory already: " + dir, mend: "stop the daemon and move it away, if it is of no use any more"}
}

// found makes the data directory; replace moves one that is there away.
func (r rebirth) found(replace bool) (moved string, err error) {
	store := r.cfg.LogStore()
	owner, err := ownerFor(r.cfg.DataDir)
	if err != nil {
		return "", err
	}
	moved, err = raftstore.Found(store, raftstore.Beginning{
		Life: r.life, Index: r.picture.Index, Term: r.picture.Term, State: r.picture.State,
	}, replace)
	if errors.Is(err, raftstore.ErrDirUsed) {
		return "", dirUsed(store.Dir)
	}
	if err != nil {
		return "", err
	}
	return moved, giveTo(owner, store.Dir)
}

// object is the answer for programs.
func (r rebirth) object(plan restorePlan, done bool) object {
	jobs := []any{}
	for i, j := range r.after.Jobs {
		jobs = append(jobs, object{
			{"name", string(j.Name)}, {"epoch_then", uint64(r.before.Jobs[i].Epoch)}, {"epoch_left_out", uint64(j.Epoch)}, {"paused", string(j.Paused())},
		})
	}
	return object{
		{"file", plan.file}, {"cluster", r.cfg.Cluster}, {"node", r.cfg.Node}, {"data_dir", r.cfg.DataDir}, {"life", r.life.String()},
		{"index", r.picture.Index}, {"members", list(r.picture.Members)}, {"jobs", jobs}, {"done", done}, {"others", r.others(plan)},
	}
}

// others is the command for the other nodes.
func (r rebirth) others(plan restorePlan) string {
	if r.told {
		return fmt.Sprintf("duoctl restore %s --node-config %s", plan.file, defaultNodeConfig)
	}
	text := fmt.Sprintf("duoctl restore %s --node-config %s --life %s", plan.file, defaultNodeConfig, r.life)
	if plan.given("skip") {
		text += fmt.Sprintf(" --skip %d", plan.skip)
	}
	if plan.stopped {
		text += " --stopped"
	}
	return text
}

func (r rebirth) write(w io.Writer, plan restorePlan, done bool) {
	word := "would be"
	if done {
		word = "is"
	}
	fmt.Fprintf(w, "node %s of cluster %s %s made in %s, for life %s\n\n", r.cfg.Node, r.cfg.Cluster, word, r.cfg.DataDir, r.life)
	g := &grid.Grid{Head: []string{"JOB", "EPOCH THEN", "NEXT EPOCH ABOVE", "PAUSED"}}
	for i, j := range r.after.Jobs {
		g.Add(string(j.Name), epochText(uint64(r.before.Jobs[i].Epoch)), epochText(uint64(j.Epoch)), grid.OrDash(string(j.Paused())))
	}
	g.Write(w)
	fmt.Fprintf(w, "\nwhat is agreed on after index %d is not in the file; moves and plans of then are dropped\n", max(r.picture.Index, 1)-1)
	fmt.Fprintf(w, "on each of the other nodes (%s): %s\n", strings.Join(without(r.picture.Members, r.cfg.Node), ", "), r.others(plan))
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}
