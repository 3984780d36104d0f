package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/probe/journal"
)

// Verdict is what the folder of one run says.
type Verdict struct {
	Folder string
	Run    Run
	Trials []Trial `json:"-"`
	Order  commitorder.Verdict
	// Acknowledged are rows whose commit the writers were told of; LostAsync those of them that a failover to an asynchronous
	// standby has lost, as it may.
	Acknowledged, LostAsync int
	// Violations are broken promises about what is committed.
	Violations int
	// Wrong is what must not be, a line each; Oracle is why the records cannot be trusted.
	Wrong, Oracle []string
}

// examine judges the records of a run. The error says that they cannot be read.
func examine(path string) (*Verdict, error) {
	v := &Verdict{Folder: path}
	text, err := os.ReadFile(filepath.Join(path, runName))
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if err := json.Unmarshal(text, &v.Run); err != nil {
		return nil, fmt.Errorf("read record %s: %w", runName, err)
	}
	err = readLines(filepath.Join(path, trialsName), true, func(line string) error {
		var t Trial
		err := json.Unmarshal([]byte(line), &t)
		v.Trials = append(v.Trials, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	kept, err := readOrder(path)
	if err != nil {
		return nil, err
	}
	v.judgeOrder(kept)
	if err := errors.Join(v.judgeTable(path, kept), v.judgeJournals(path, kept)); err != nil {
		return nil, err
	}
	v.judgeTrials()
	return v, v.askOthers(path)
}

// askOthers lets the contributions judge what they have left.
func (v *Verdict) askOthers(path string) error {
	for _, c := range contributions {
		if c.check == nil {
			continue
		}
		wrong, err := c.check(path)
		if err != nil {
			return err
		}
		v.Wrong = append(v.Wrong, wrong...)
	}
	return nil
}

func readOrder(path string) ([]commitorder.Row, error) {
	var rows []commitorder.Row
	err := readLines(filepath.Join(path, commitsName), true, func(line string) error {
		c, _, err := parseCommit(line)
		rows = append(rows, c.Row)
		return err
	})
	return rows, err
}

// judgeOrder looks for commits of an old epoch after a newer one's first, and for the like.
func (v *Verdict) judgeOrder(kept []commitorder.Row) {
	v.Order = commitorder.Examine(kept)
	v.Order.StolenRows = 0 // clients are below 0 too, much further
	for _, r := range kept {
		if r.PID < 0 && r.PID >= -int64(len(ways)) {
			v.Order.StolenRows++
		}
	}
	for _, count := range []struct {
		n    int
		what string
	}{
		{v.Order.Stale, "rows committed by an old epoch after a newer one's first"},
		{v.Order.Shared, "rows of an epoch by another node than the first"},
		{v.Order.Twice, "rows that are there twice"},
	} {
		if count.n > 0 {
			v.Violations += count.n
			v.Wrong = append(v.Wrong, fmt.Sprintf("%d %s, for example %s", count.n, count.what, v.Order.Example))
		}
	}
}

// judgeTable compares the order with what the table held at the end: an oracle that has missed something proves nothing.
func (v *Verdict) judgeTable(path string, kept []commitorder.Row) error {
	counted := tally(kept)
	seen := 0
	err := readLines(filepath.Join(path, tableName), true, func(line string) error {
		seen++
		if !counted[line] {
			v.Oracle = append(v.Oracle, "the table has, and the commit order has not: "+line)
		}
		return nil
	})
	if err == nil && seen != len(counted) {
		v.Oracle = append(v.Oracle, fmt.Sprintf("the table has %d writers' rows, the commit order %d writers'", seen, len(counted)))
	}
	if len(kept) == 0 {
		v.Oracle = append(v.Oracle, "the commit order is empty")
	}
	return err
}

// tally counts the rows of each writer and adds up their numbers, as tallySQL does.
func tally(rows []commitorder.Row) map[string]bool {
	type sum struct{ n, seq int64 }
	sums := map[commitorder.Row]sum{}
	for _, r := range rows {
		key := commitorder.Row{Node: r.Node, Epoch: r.Epoch, PID: r.PID}
		sums[key] = sum{sums[key].n + 1, sums[key].seq + r.Seq}
	}
	lines := map[string]bool{}
	for key, s := range sums {
		lines[fmt.Sprintf("%s %d %d %d %d", key.Node, key.Epoch, key.PID, s.n, s.seq)] = true
	}
	return lines
}

// judgeJournals wants every acknowledged row in the order, but for those that a failover to an asynchronous standby has lost.
func (v *Verdict) judgeJournals(path string, kept []commitorder.Row) error {
	lost := map[commitorder.Row]string{}
	err := readLines(filepath.Join(path, lostName), false, func(line string) error {
		c, kind, err := parseCommit(line)
		lost[c.Row] = kind
		return err
	})
	if err != nil {
		return err
	}
	there := make(map[commitorder.Row]bool, len(kept))
	for _, r := range kept {
		there[r] = true
	}
	gone, example := 0, commitorder.Row{}
	err = journal.Read(filepath.Join(path, journalName), func(r commitorder.Row) {
		v.Acknowledged++
		switch {
		case there[r]:
		case lost[r] == lostAsync:
			v.LostAsync++
		default:
			gone, example = gone+1, r
		}
	})
	if gone > 0 {
		v.Violations += gone
		v.Wrong = append(v.Wrong, fmt.Sprintf("%d acknowledged rows are lost, for example %+v", gone, example))
	}
	if err == nil && v.Acknowledged == 0 {
		v.Oracle = append(v.Oracle, "the journals are empty")
	}
	return err
}

func (v *Verdict) judgeTrials() {
	for i, t := range v.Trials {
		if t.Number != i+1 {
			v.Oracle = append(v.Oracle, fmt.Sprintf("trial %d is missing", i+1))
			break
		}
		wrong := t.wrong()
		if i > 0 {
			wrong = append(wrong, t.since(v.Trials[i-1])...)
		}
		for _, line := range wrong {
			v.Wrong = append(v.Wrong, fmt.Sprintf("trial %d, %s: %s", t.Number, t.Type(), line))
		}
	}
	if len(v.Trials) == 0 {
		v.Oracle = append(v.Oracle, "there was no trial")
	}
}

// wrong is what must not be in a trial.
func (t Trial) wrong() []string {
	var wrong []string
	if t.Stuck != "" {
		wrong = append(wrong, "did not recover: "+t.Stuck)
	}
	if t.falseMove() && !t.unfit() {
		wrong = append(wrong, fmt.Sprintf("false failover from epoch %d to %d: %s", t.Epoch, t.After, strings.Join(t.Why, ", ")))
	}
	for _, how := range t.Ended {
		wrong = append(wrong, "a daemon ended by itself: "+how)
	}
	return wrong
}

// expects is what its troubles may do to the job, together.
func (t Trial) expects() expectation {
	all := mustNot
	for _, h := range t.Harms {
		switch h.Moves {
		case must.String():
			return must
		case may.String():
			all = may
		}
	}
	return all
}

// falseMove reports whether the job moved though nothing gave a reason to.
func (t Trial) falseMove() bool { return t.Stuck == "" && t.expects() == mustNot && t.Moved() }

// unfit reports whether the machine itself stood still, or had too much to do for anybody to be heard in time.
func (t Trial) unfit() bool {
	return seconds(t.Late) >= unfit || t.Load > overloaded*float64(runtime.NumCPU())
}

// lateWithin is how long after its end a trouble that may move the job can still be the reason for a move.
const lateWithin = 5 * time.Second

// movedBetween reports whether the job moved between two trials, and the first was no reason to.
func (t Trial) movedBetween(before Trial) bool {
	return before.Stuck == "" && t.Epoch > before.After && (before.expects() == mustNot || seconds(t.Since) > lateWithin)
}

func (t Trial) since(before Trial) []string {
	if !t.movedBetween(before) || t.unfit() {
		return nil
	}
	return []string{fmt.Sprintf("false failover before it, from epoch %d to %d", before.After, t.Epoch)}
}

// strange is what happened because of the machine, not because of the cluster.
func (t Trial) strange() []string {
	if !t.falseMove() || !t.unfit() {
		return nil
	}
	return []string{fmt.Sprintf("moved for nothing (%s), but the machine was late by %s, load %.0f",
		strings.Join(t.Why, ", "), short(t.Late), t.Load)}
}

func (e expectation) String() string {
	return [...]string{may: "may", must: "must", mustNot: "mustNot"}[e]
}

// What lostName says of a row: a failover to that kind of standby has lost it.
const (
	lostAsync = "async"
	lostSync  = "sync"
)

func describe(lines []string, most int) string {
	if len(lines) > most {
		lines = append(slices.Clone(lines[:most]), fmt.Sprintf("and %d more", len(lines)-most))
	}
	return strings.Join(lines, "; ")
}
