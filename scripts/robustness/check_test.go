package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/probe/journal"
)

// record writes the folder of a run in which nothing is wrong: two failovers, a thief, a client, and a row that a failover to an
// asynchronous standby has lost.
func record(t *testing.T) string {
	t.Helper()
	f, err := newFolder(t.TempDir(), 7)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := os.Mkdir(f.journal(), 0o755); err != nil {
		t.Fatal(err)
	}
	rows := []commitorder.Row{
		{Node: "a", Epoch: 1, PID: 70, Seq: 1}, {Node: "a", Epoch: 1, PID: 70, Seq: 2}, {Node: "a", Epoch: 1, PID: -1, Seq: 1},
		{Node: "b", Epoch: 2, PID: 80, Seq: 1}, {Node: "b", Epoch: 2, PID: -1081, Seq: 1}, {Node: "b", Epoch: 2, PID: 80, Seq: 2},
		{Node: "a", Epoch: 4, PID: 90, Seq: 1},
	}
	gone := commitorder.Row{Node: "b", Epoch: 2, PID: 80, Seq: 3}
	commits := make([]commitorder.Commit, 0, len(rows))
	for i, r := range rows {
		commits = append(commits, commitorder.Commit{Row: r, LSN: uint64(0x100 + i)})
	}
	failed(t, f.writeCommits(commitsName, commits, ""))
	failed(t, f.writeCommits(lostName, []commitorder.Commit{{Row: gone, LSN: 0x200}}, " "+lostAsync))
	for line := range tally(rows) {
		failed(t, f.write(tableName, line+"\n"))
	}
	for _, r := range append(rows, gone) {
		if r.PID > 0 || r.PID < -1000 {
			acknowledge(t, f.path, r)
		}
	}
	failed(t, f.writeJSON(runName, Run{Seed: 7, Started: time.Unix(0, 0)}))
	writeHistory(t, f)
	for _, trial := range []Trial{
		{Number: 1, Node: "a", Epoch: 1, After: 2, AfterNode: "b", Served: []uint64{2}, Gap: 0.2, Harms: []Harm{{Trouble: "kill-host", Node: "a", Moves: "must"}}},
		{Number: 2, Node: "b", Epoch: 2, After: 4, AfterNode: "a", Served: []uint64{4}, Gap: 1.5, Refused: 3, Harms: []Harm{{Trouble: "failover-asynchronous", Node: "b", Moves: "may"}}},
		{Number: 3, Node: "a", Epoch: 4, After: 4, AfterNode: "a", Gap: 0.1, Harms: []Harm{{Trouble: "freeze-any-host", Node: "t", Moves: "mustNot"}}},
	} {
		failed(t, f.writeJSON(trialsName, trial))
	}
	return f.path
}

func failed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func acknowledge(t *testing.T, folder string, r commitorder.Row) {
	t.Helper()
	file, err := journal.Open(filepath.Join(folder, journalName), r.Node, int64(r.Epoch), int(r.PID))
	failed(t, err)
	failed(t, file.Add(r.Seq))
	failed(t, file.Close())
}

func check(t *testing.T, folders ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr strings.Builder
	code = run(t.Context(), append([]string{"check"}, folders...), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestASoundRecordIsAccepted(t *testing.T) {
	path := record(t)
	code, out, errs := check(t, path)
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	for _, want := range []string{
		"3 trials, 2 failovers, 0 false (and 0 on a machine that stood still), 0 stuck; 7 rows committed, 1 of them", "violations: 0", "standby lost: 1",
		"kill-host              1       0         1 ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
	if code, out, _ := check(t, "-markdown", path); code != 0 || !strings.Contains(out, "\n| kill-host | 1 | 0 | 1 | 0 | 0 | 0 | 200ms | 200ms | 200ms |\n") {
		t.Errorf("for a document: exit code %d\n%s", code, out)
	}
	if code, out, errs := check(t, path, record(t)); code != 0 || !strings.Contains(out, "2 runs, 6 trials, 4 failovers") {
		t.Errorf("two runs together: exit code %d, %s\n%s", code, errs, out)
	}
}

// edit changes the lines of a file of the folder.
func edit(t *testing.T, folder, name string, change func(lines []string) []string) {
	t.Helper()
	path := filepath.Join(folder, name)
	text, err := os.ReadFile(path)
	failed(t, err)
	lines := change(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"))
	failed(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// retell replaces the commit order and tells the table the same, as a cluster would that lets such commits happen.
func retell(t *testing.T, folder string, change func(lines []string) []string) {
	t.Helper()
	edit(t, folder, commitsName, change)
	rows, err := readOrder(folder)
	failed(t, err)
	edit(t, folder, tableName, func([]string) []string {
		var lines []string
		for line := range tally(rows) {
			lines = append(lines, line)
		}
		return lines
	})
}

func changeTrial(number int, change func(*Trial)) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		edit(t, folder, trialsName, func(lines []string) []string {
			var trial Trial
			failed(t, json.Unmarshal([]byte(lines[number-1]), &trial))
			change(&trial)
			text, err := json.Marshal(trial)
			failed(t, err)
			lines[number-1] = string(text)
			return lines
		})
	}
}

func appended(line string) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		retell(t, folder, func(lines []string) []string { return append(lines, line) })
	}
}

// tamperings are whatever a cluster could do wrong, and whatever a record could lack.
var tamperings = []struct {
	name   string
	tamper func(t *testing.T, folder string)
	code   int
	want   string
}{
	{"a late commit of the job", appended("300 b 2 80 9"), 1, "1 rows committed by an old epoch"},
	{"a late commit of a thief", appended("300 a 1 -1 2"), 1, "1 rows committed by an old epoch"},
	{"two nodes under one epoch", appended("300 b 4 91 1"), 1, "another node"},
	{"a row twice", appended("300 a 4 90 1"), 1, "twice"},
	{"an acknowledged row that is nowhere", func(t *testing.T, folder string) {
		t.Helper()
		acknowledge(t, folder, commitorder.Row{Node: "a", Epoch: 4, PID: 90, Seq: 2})
	}, 1, "1 acknowledged rows are lost"},
	{"an acknowledged row that a synchronous standby has not got", func(t *testing.T, folder string) {
		t.Helper()
		edit(t, folder, lostName, func(lines []string) []string { return []string{strings.Replace(lines[0], lostAsync, lostSync, 1)} })
	}, 1, "1 acknowledged rows are lost"},
	{"a failover for nothing", changeTrial(3, func(trial *Trial) { trial.After, trial.Served = 5, []uint64{5} }), 1, "false failover"},
	{"a failover between trials", changeTrial(3, func(trial *Trial) { trial.Epoch, trial.After, trial.Since = 5, 5, 6 }), 1, "false failover before it, from epoch 4 to 5"},
	{"stuck", changeTrial(2, func(trial *Trial) { trial.Stuck = "nobody is active" }), 1, "did not recover: nobody is active"},
	{"a daemon that ended by itself", changeTrial(1, func(trial *Trial) { trial.Ended = []string{"b: exit status 2"} }), 1, "ended by itself: b: exit status 2"},
	{"an order that lacks a row", func(t *testing.T, folder string) {
		t.Helper()
		edit(t, folder, commitsName, func(lines []string) []string { return slices.Delete(lines, 2, 3) })
	}, 3, "the table has, and the commit order has not"},
	{"an order that has too much", func(t *testing.T, folder string) {
		t.Helper()
		edit(t, folder, commitsName, func(lines []string) []string { return append(lines, "300 a 5 95 1") })
	}, 3, "the commit order 6 writers"},
	{"an empty order", func(t *testing.T, folder string) {
		t.Helper()
		failed(t, os.WriteFile(filepath.Join(folder, commitsName), nil, 0o644))
		failed(t, os.WriteFile(filepath.Join(folder, tableName), nil, 0o644))
	}, 3, "the commit order is empty"},
	{"no journal", func(t *testing.T, folder string) {
		t.Helper()
		failed(t, os.RemoveAll(filepath.Join(folder, journalName)))
		failed(t, os.Mkdir(filepath.Join(folder, journalName), 0o755))
	}, 3, "the journals are empty"},
	{"a trial that is missing", func(t *testing.T, folder string) {
		t.Helper()
		edit(t, folder, trialsName, func(lines []string) []string { return slices.Delete(lines, 1, 2) })
	}, 3, "trial 2 is missing"},
	{"a line that is no row", func(t *testing.T, folder string) {
		t.Helper()
		edit(t, folder, commitsName, func(lines []string) []string { return append(lines, "300 a five") })
	}, 3, "no committed row"},
	{"no commit order", func(t *testing.T, folder string) {
		t.Helper()
		failed(t, os.Remove(filepath.Join(folder, commitsName)))
	}, 3, "no such file"},
	{"no table", func(t *testing.T, folder string) {
		t.Helper()
		failed(t, os.Remove(filepath.Join(folder, tableName)))
	}, 3, "no such file"},
}

func TestATamperedRecordIsRefused(t *testing.T) {
	for _, test := range tamperings {
		t.Run(test.name, func(t *testing.T) {
			path := record(t)
			test.tamper(t, path)
			code, out, errs := check(t, record(t), path)
			if code != test.code || !strings.Contains(errs, test.want) {
				t.Errorf("exit code %d, want %d with %q: %s\n%s", code, test.code, test.want, errs, out)
			}
		})
	}
}

// TestAMoveForNothingIsExcusedByTheMachineOnly: late beats of this program itself, or a load that explains them.
func TestAMoveForNothingIsExcusedByTheMachineOnly(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Trial)
		code   int
	}{
		{"quiet", func(*Trial) {}, 1},
		{"late", func(trial *Trial) { trial.Late = 0.2 }, 0},
		{"loaded", func(trial *Trial) { trial.Load = 1000 }, 0},
		{"soon after a trouble that may move it", func(trial *Trial) { trial.Harms[0].Moves = "may" }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := record(t)
			changeTrial(3, func(trial *Trial) {
				trial.After, trial.Served = 5, []uint64{5}
				test.change(trial)
			})(t, path)
			if code, out, errs := check(t, path); code != test.code {
				t.Errorf("exit code %d: %s\n%s", code, errs, out)
			}
		})
	}
}

func TestUpperBound(t *testing.T) {
	for _, test := range []struct {
		violations, n int
		want          string
	}{
		{0, 0, "1"}, {0, 1, "0.95"}, {0, 10, "0.2589"}, {0, 3000, "0.0009981"}, {1, 10, "0.3942"}, {3, 50, "0.1478"}, {5, 5, "1"},
	} {
		if got := fmt.Sprintf("%.4g", upperBound(test.violations, test.n)); got != test.want {
			t.Errorf("%d of %d: %s, want %s", test.violations, test.n, got, test.want)
		}
	}
}
