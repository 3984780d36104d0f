package main

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

var began = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// every makes instants that far apart, from the beginning to d.
func every(step, d time.Duration) []time.Time {
	var at []time.Time
	for t := time.Duration(0); t <= d; t += step {
		at = append(at, began.Add(t))
	}
	return at
}

// calm is a made-up run of a minute in which nothing happened.
func calm(t *testing.T) *Run {
	t.Helper()
	r := &Run{
		Minutes: 1, Node: "a", Epoch: 1, Bound: 1,
		Samples: []Sample{{Leader: "t", Term: 2, D: 0.3, Gaps: map[string]float64{"0.5": 0.05, "1": 0.06}}},
		Order:   commitorder.Verdict{Rows: 100_000},
	}
	r.measure(window{began, began.Add(time.Minute)}, commitsOf(life{"a", 1, 77}, every(5*time.Millisecond, time.Minute)),
		every(20*time.Millisecond, time.Minute), time.Second)
	if broken := r.judge(); len(broken) > 0 {
		t.Fatalf("nothing happened, and yet: %q", broken)
	}
	return r
}

func commitsOf(l life, at []time.Time) []commit {
	all := make([]commit, len(at))
	for i, t := range at {
		all[i] = commit{l, t}
	}
	return all
}

// without drops the instants between two moments of the run.
func without(at []time.Time, from, to time.Duration) []time.Time {
	return slices.DeleteFunc(slices.Clone(at), func(t time.Time) bool {
		return t.After(began.Add(from)) && t.Before(began.Add(to))
	})
}

// TestARunCanFail: whatever the job notices, and whatever would make the verdict worthless, breaks a run.
func TestARunCanFail(t *testing.T) {
	whole := window{began, began.Add(time.Minute)}
	job, others := every(5*time.Millisecond, time.Minute), every(20*time.Millisecond, time.Minute)
	mine := life{"a", 1, 77}
	for _, c := range []struct {
		name string
		do   func(*Run)
		want string
	}{
		{"another epoch", func(r *Run) {
			r.measure(whole, append(commitsOf(mine, job[:6000]), commitsOf(life{"b", 2, 88}, job[6000:])...), others, time.Second)
		}, "not one life"},
		{"another process of the same epoch", func(r *Run) {
			r.measure(whole, append(commitsOf(mine, job[:6000]), commitsOf(life{"a", 1, 78}, job[6000:])...), others, time.Second)
		}, "not one life"},
		{"a failover in the history", func(r *Run) {
			r.History = []HistoryEntry{{Epoch: 2, Node: "b", Kind: "grant", Reason: "silent: a: not heard for 310ms"}}
		}, "grant of epoch 2 on b: silent"},
		{"a release in the history", func(r *Run) { r.History = []HistoryEntry{{Epoch: 1, Node: "a", Kind: "release"}} }, "release of epoch 1"},
		{"a gap of the job alone", func(r *Run) {
			r.measure(whole, commitsOf(mine, without(job, 30*time.Second, 31100*time.Millisecond)), others, time.Second)
		}, "no commit for 1.1"},
		{"a gap at the end", func(r *Run) {
			r.measure(whole, commitsOf(mine, without(job, 58*time.Second, 2*time.Minute)), others, time.Second)
		}, "no commit for 2."},
		{"a trouble that moved the job", func(r *Run) { r.Events = []Event{{Trouble: "kill-witness", Moved: "from here to there"}} }, "kill-witness moved"},
		{"a node that did not come back", func(r *Run) { r.Events = []Event{{Trouble: "wipe-witness", Stuck: "not whole"}} }, "not whole"},
		{"a switchover that does not work", func(r *Run) { r.Switchover = "refused" }, "switchover at the end"},
		{"rows of an old epoch", func(r *Run) { r.Order.Stale = 1 }, "commit order"},
		{"a job that does nothing", func(r *Run) { r.measure(whole, nil, others, time.Second) }, "only 0 commits of the job"},
		{"no bystander", func(r *Run) { r.measure(whole, commitsOf(mine, job), nil, time.Second) }, "only 0 commits of the bystander"},
		{"an empty commit order", func(r *Run) { r.Order.Rows = 0 }, "commit order holds 0 rows"},
		{"no trouble", func(r *Run) { r.Faults = true }, "no trouble was made"},
		{"no load", func(r *Run) { r.Load, r.Busy = 8, 8*runtime.NumCPU()-1 }, "busy processes"},
		{"nobody looked", func(r *Run) { r.Samples = nil }, "detection time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := calm(t)
			c.do(r)
			if broken := strings.Join(r.judge(), "; "); !strings.Contains(broken, c.want) {
				t.Errorf("broken: %q, want %q", broken, c.want)
			}
		})
	}
}

// TestSharedStallIsExcused: what stopped the bystander too was not duoflow, but it is counted all the same.
func TestSharedStallIsExcused(t *testing.T) {
	r := calm(t)
	r.measure(window{began, began.Add(time.Minute)},
		commitsOf(life{"a", 1, 77}, without(every(5*time.Millisecond, time.Minute), 30*time.Second, 32*time.Second)),
		without(every(20*time.Millisecond, time.Minute), 30*time.Second, 32*time.Second), time.Second)
	if len(r.Stalls) != 1 || len(r.judge()) != 0 || r.Job.Max < 1.9 {
		t.Errorf("stalls %+v, longest gap %.3f s, broken %q", r.Stalls, r.Job.Max, r.judge())
	}
}

func TestSpread(t *testing.T) {
	at := without(every(5*time.Millisecond, time.Minute), 30*time.Second, 30300*time.Millisecond)
	s := window{began, began.Add(time.Minute)}.spread(at)
	if s.P50 != 0.005 || s.P99 != 0.005 || s.P999 != 0.005 || s.Max != 0.3 || !s.MaxAt.Equal(began.Add(30*time.Second)) {
		t.Errorf("%+v", s)
	}
}

func TestSampleOf(t *testing.T) {
	text := `# HELP duoflow_raft_term Raft term.
duoflow_raft_term 7
duoflow_raft_leader 1
duoflow_log_fsync_p99_seconds 0.004
duoflow_detection_seconds{duoflow_job="scheduler",peer="a"} 0.621
duoflow_beat_gap_seconds{duoflow_job="scheduler",peer="a",quantile="0.999"} 0.207
`
	leader, err := lab.ParseMetrics(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	s := sampleOf(map[string]lab.Metrics{"t": leader, "b": {"duoflow_raft_term": 6}}, "a")
	if s.Leader != "t" || s.Term != 7 || s.D != 0.621 || s.Gaps["0.999"] != 0.207 || s.Fsync["t"] != 0.004 {
		t.Errorf("%+v", s)
	}
}

func TestParse(t *testing.T) {
	var errs strings.Builder
	for _, wrong := range [][]string{{"-o", "xml"}, {"-minutes", "0"}, {"-faults", "-load", "8"}, {"-gap", "0s"}, {"-load", "-1"}} {
		if code := run(t.Context(), wrong, &errs, &errs); code != 2 {
			t.Errorf("%v: exit code %d, want 2", wrong, code)
		}
	}
	o := &options{}
	if _, err := o.program().Parse([]string{"-faults"}, &errs); err != nil || o.seed == 0 || o.minutes != 60 || o.gap != time.Second {
		t.Errorf("options %+v, %v", o, err)
	}
}

// TestTroublesLeaveTheActiveAlone: the raft leader is harmed only where it is not the active node, and no trouble
// outlasts the run by more than its least time.
func TestTroublesLeaveTheActiveAlone(t *testing.T) {
	for _, leader := range []string{"a", "b", "t", ""} {
		if target := (place{active: "a", leader: leader}).target(); target == "a" {
			t.Errorf("leader %q: harm is done to the active node", leader)
		}
	}
	dice := rand.New(rand.NewPCG(1, 0))
	for _, trouble := range troubles {
		for range 100 {
			if d := trouble.lasts(dice, 3*time.Second); d < trouble.shortest || d > max(trouble.shortest, 3*time.Second) {
				t.Fatalf("%s lasts %s", trouble.name, d)
			}
		}
	}
}

// TestTable: a failover is seen in what people read.
func TestTable(t *testing.T) {
	r := calm(t)
	r.Faults, r.Events = true, []Event{{Trouble: "kill-both", Lasted: 12, Whole: 1.5, Moved: "away"}}
	r.History = []HistoryEntry{{Epoch: 2, Node: "b", Kind: "grant"}}
	var out strings.Builder
	if err := r.table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kill-both", "failovers 1", "commits of the job", "1.5 s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}
