package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/backup"
	"github.com/duoflow/duoflow/node/lease"
	"github.com/duoflow/duoflow/raftstore"
)

// rebirth is a node that is to be made for another life of its cluster.
type rebirth struct {
	cfg     node.Config
	picture backup.Picture // begins the life
	life    raftstore.Life
	before  lease.State // as it was taken
	after   lease.State // as the life begins
	others  string      // the command for the other nodes
}

// reborn decides on the life and its beginning.
func reborn(cfg node.Config, plan restorePlan, picture backup.Picture, before lease.State) (rebirth, error) {
	r := rebirth{cfg: cfg, before: before}
	begin := r.begin
	if picture.Begins != "" {
		begin = r.goOn
	}
	r, err := begin(plan, picture)
	if err != nil {
		return r, err
	}
	if members := membersOf(cfg); !slices.Equal(r.picture.Members, members) {
		return r, refusal(exitUnsafe, fmt.Errorf("life %s has the nodes %s, the configuration names %s",
			r.life, strings.Join(r.picture.Members, ", "), strings.Join(members, ", ")), "give every node the same list of nodes")
	}
	if r.after, err = lease.DecodeSnapshot(r.picture.State); err != nil {
		return r, fmt.Errorf("read the beginning of life %s: %w", r.life, err)
	}
	return r, nil
}

// begin has a life begin with a picture of the one before.
func (r rebirth) begin(plan restorePlan, picture backup.Picture) (rebirth, error) {
	order := plan.order
	order.Members = membersOf(r.cfg)
	var err error
	if r.life, err = chooseLife(picture, order, plan.life); err != nil {
		return r, err
	}
	r.picture, err = picture.Begin(r.life.String(), order)
	r.others = fmt.Sprintf("duoflowd restore %s --life %s", plan.file, r.life)
	if slices.Contains(plan.given, "skip") {
		r.others += fmt.Sprintf(" --skip %d", order.Skip)
	}
	if order.Stopped {
		r.others += " --stopped"
	}
	return r, err
}

// goOn takes a life's beginning from the file, as recover has written it.
func (r rebirth) goOn(plan restorePlan, picture backup.Picture) (rebirth, error) {
	if len(plan.given) > 0 {
		return r, refusal(exitUsage, fmt.Errorf("--%s: it is decided already how life %s begins", plan.given[0], picture.Begins), "leave it out")
	}
	var err error
	if r.life, err = raftstore.ParseLife(picture.Begins); err != nil {
		return r, refusal(exitFailed, fmt.Errorf("read %s: %w", plan.file, err), "use another backup")
	}
	r.picture, r.others = picture, "duoflowd restore "+plan.file
	return r, nil
}

func membersOf(cfg node.Config) []string { return slices.Sorted(maps.Keys(cfg.Nodes)) }

// chooseLife draws a life, or takes the one that another node's restore has drawn. The end of its id says what it begins with.
func chooseLife(p backup.Picture, o backup.Order, asked string) (raftstore.Life, error) {
	mark, err := p.Mark(o)
	if err != nil {
		return raftstore.Life{}, err
	}
	before, err := raftstore.ParseLife(p.Life)
	if err != nil {
		return raftstore.Life{}, refusal(exitFailed, err, "use another backup")
	}
	if strings.Contains(asked, "-") {
		return lifeDrawn(asked, mark, before)
	}
	number := before.Number + 1
	if asked != "" {
		if number, err = strconv.ParseUint(asked, 10, 32); err != nil || number <= before.Number {
			return raftstore.Life{}, refusal(exitUsage, fmt.Errorf("--life %q is no number above %d", asked, before.Number), "duoctl status shows the life of a cluster")
		}
	}
	var drawn [4]byte
	_, _ = rand.Read(drawn[:]) // never fails: it ends the program instead
	return raftstore.ParseLife(fmt.Sprintf("%d-%s%s", number, hex.EncodeToString(drawn[:]), mark))
}

// lifeDrawn is the life that the restore of the first node has drawn.
func lifeDrawn(asked, mark string, before raftstore.Life) (raftstore.Life, error) {
	life, err := raftstore.ParseLife(asked)
	switch {
	case err != nil:
		return life, refusal(exitUsage, fmt.Errorf("--life: %w", err), "copy it from what the first restore printed")
	case !strings.HasSuffix(life.ID, mark), life.Number <= before.Number:
		return life, refusal(exitUnsafe, fmt.Errorf("life %s was begun with another file, another list of nodes, or another --skip or --stopped", life),
			"use the same ones as on the first node")
	}
	return life, nil
}

// dir is what is made.
func (r rebirth) dir() string { return r.cfg.LogStore().Dir }

// found makes the data directory; replace moves one that is there away.
func (r rebirth) found(replace bool) (moved string, err error) {
	owner, err := ownerFor(r.cfg.DataDir)
	if err != nil {
		return "", err
	}
	made := r.dir()
	if _, err := os.Stat(r.cfg.DataDir); err != nil {
		made = r.cfg.DataDir
	}
	moved, err = raftstore.Found(r.cfg.LogStore(), raftstore.Beginning{
		Life: r.life, Index: r.picture.Index, Term: r.picture.Term, State: r.picture.State,
	}, replace)
	if errors.Is(err, raftstore.ErrDirUsed) {
		return "", dirUsed(r.dir())
	}
	if err != nil {
		return moved, err
	}
	return moved, giveTo(owner, made)
}

// restoreAnswer is what restore tells programs.
type restoreAnswer struct {
	File    string      `json:"file"`
	Cluster string      `json:"cluster"`
	Node    string      `json:"node"`
	DataDir string      `json:"data_dir"`
	Life    string      `json:"life"`
	Index   uint64      `json:"index"`
	Members []string    `json:"members"`
	Jobs    []jobReborn `json:"jobs"`
	Done    bool        `json:"done"`
	Others  string      `json:"others"` // the command for the other nodes
}

// jobReborn is a job then, and as it begins.
type jobReborn struct {
	Name         string `json:"name"`
	EpochThen    uint64 `json:"epoch_then"`
	EpochLeftOut uint64 `json:"epoch_left_out"` // the next is above it
	Paused       string `json:"paused"`
}

func (r rebirth) answer(file string, done bool) restoreAnswer {
	jobs := []jobReborn{}
	for i, j := range r.after.Jobs {
		jobs = append(jobs, jobReborn{string(j.Name), uint64(r.before.Jobs[i].Epoch), uint64(j.Epoch), string(j.Paused())})
	}
	return restoreAnswer{
		File: file, Cluster: r.cfg.Cluster, Node: r.cfg.Node, DataDir: r.cfg.DataDir, Life: r.life.String(), Index: r.picture.Index,
		Members: r.picture.Members, Jobs: jobs, Done: done, Others: r.others,
	}
}

func (r rebirth) write(w io.Writer, done bool) {
	w = grid.Printable{W: w}
	word := "would be"
	if done {
		word = "is"
	}
	fmt.Fprintf(w, "node %s of cluster %s %s made in %s, for life %s\n\n", r.cfg.Node, r.cfg.Cluster, word, r.cfg.DataDir, r.life)
	g := &grid.Grid{Head: []string{"JOB", "EPOCH THEN", "NEXT EPOCH ABOVE", "PAUSED"}}
	for i, j := range r.after.Jobs {
		g.Add(string(j.Name), epochWord(r.before.Jobs[i].Epoch), epochWord(j.Epoch), grid.OrDash(string(j.Paused())))
	}
	g.Write(w)
	fmt.Fprintf(w, "\nwhat was agreed on after index %d is not in the file; moves and plans of then are dropped\n", r.picture.Index-1)
	fmt.Fprintf(w, "on each of the other nodes (%s): %s\n", strings.Join(r.otherNodes(), ", "), r.others)
}

func (r rebirth) otherNodes() []string {
	return slices.DeleteFunc(slices.Clone(r.picture.Members), func(name string) bool { return name == r.cfg.Node })
}

// epochWord shows 0, no epoch, as a dash.
func epochWord(e lease.Epoch) string {
	if e == 0 {
		return grid.Dash
	}
	return fmt.Sprint(e)
}
