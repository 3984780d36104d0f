package audit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/audit"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

const skew = 2 * time.Second

// at is so many seconds after a beginning.
func at(seconds float64) time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(seconds * float64(time.Second)))
}

// clean is a history in which nothing is wrong, with all that looks wrong and is not: epoch 1 of a was superseded and its frozen tree ended late, as
// its daemon said even later; epoch 2 of b was released; epoch 4 of a (3 was refused) runs. Before, a scheduler ran without duoflow.
func clean() *audit.Evidence {
	e := &audit.Evidence{
		Job: "scheduler", Group: "g", At: at(500), Row: fence.Row{Epoch: 4, Node: "a", At: at(200)},
		Events: []audit.Event{
			{ID: 10, Epoch: 1, Node: "a", Moment: fence.Taken, At: at(10)}, {ID: 11, Epoch: 1, Node: "a", Moment: fence.Started, At: at(10.1)},
			{ID: 20, Epoch: 2, Node: "b", Moment: fence.Taken, At: at(100)}, {ID: 21, Epoch: 2, Node: "b", Moment: fence.Started, At: at(100.1)},
			{ID: 24, Epoch: 1, Node: "a", Moment: fence.Stopped, At: at(104)},
			{ID: 25, Epoch: 2, Node: "b", Moment: fence.Released, At: at(199.9)},
			{ID: 26, Epoch: 4, Node: "a", Moment: fence.Taken, At: at(200)},
			{ID: 27, Epoch: 2, Node: "b", Moment: fence.Stopped, At: at(199.8)}, {ID: 28, Epoch: 4, Node: "a", Moment: fence.Started, At: at(200.1)},
		},
		Roles: []audit.Role{{Name: "df_g_scheduler_e1", Epoch: 1}, {Name: "df_g_scheduler_e2", Epoch: 2},
			{Name: "df_g_scheduler_e4", Epoch: 4, Login: true, Member: true}},
		Sessions: []audit.Session{{PID: 7, Epoch: 4, State: "idle"}},
		Schedulers: []audit.Scheduler{
			{ID: 1, Host: "old", State: "success", Start: at(-90), Beat: at(-1), End: at(-1)},
			{ID: 2, Host: "old2", State: "success", Start: at(-90), Beat: at(-1), End: at(-1)}, // Airflow's own two
			{ID: 3, Host: "a", State: "failed", Start: at(10.2), Beat: at(99), End: at(100.1)},
			{ID: 4, Host: "b", State: "success", Start: at(99.5), Beat: at(199), End: at(199.8)}, // its clock is late
			{ID: 5, Host: "a", State: "running", Start: at(200.2), Beat: at(499)},
		},
		Tries: map[int64]int{3: 5, 4: 7, 5: 1},
	}
	lines(e, "sensor", at(20), "running", "up_for_reschedule", "running", "up_for_reschedule", "running", "success")
	lines(e, "deferred", at(30), "running", "deferred", "running", "awaiting_input", "running", "scheduled", "running", "failed")
	lines(e, "deleted", at(40), "running", "delete_dag_run", "running")
	lines(e, "remade", at(50), "running", "running") // the run was deleted, and made again between the two
	e.Lines[len(e.Lines)-1].Made, e.Lines[len(e.Lines)-2].Made = at(60), at(60)
	e.Lines[len(e.Lines)-1].At = at(61)
	return e
}

// lines adds lines of Airflow's log about one try, a second apart.
func lines(e *audit.Evidence, task string, from time.Time, events ...string) {
	for n, event := range events {
		e.Lines = append(e.Lines, audit.Line{
			ID: int64(len(e.Lines) + 1), At: from.Add(time.Duration(n) * time.Second), Event: event, Host: fmt.Sprintf("w%d", n),
			Try: audit.Try{DAG: "d", Run: "r", Task: task, Map: -1, Number: 1}, Made: at(0),
		})
	}
}

func event(id int64, epoch uint64, node string, moment fence.Moment, when time.Time) audit.Event {
	return audit.Event{ID: id, Epoch: epoch, Node: node, Moment: moment, At: when}
}

func TestACleanHistoryFindsNothing(t *testing.T) {
	report := audit.Judge(*clean(), skew)
	if len(report.Findings) != 0 || !report.Complete() {
		t.Errorf("findings %+v", report.Findings)
	}
	if len(report.Remarks) != 1 || !strings.Contains(report.Remarks[0], "epoch 1 on a went on for 4s after epoch 2") {
		t.Errorf("remarks %q", report.Remarks)
	}
	var got []string
	for _, e := range report.Epochs {
		var rows []int64
		for _, s := range e.Schedulers {
			rows = append(rows, s.ID)
		}
		got = append(got, fmt.Sprintf("%d %s taken %v by %d at %v tries %d rows %v", e.Epoch, e.Node, e.Taken.Sub(at(0)), e.By, e.Superseded.Sub(at(0)), e.Tries, rows))
	}
	never := time.Time{}.Sub(at(0))
	want := []string{
		fmt.Sprintf("0  taken %v by 0 at %v tries 0 rows [1 2]", never, never), "1 a taken 10s by 2 at 1m40s tries 5 rows [3]",
		"2 b taken 1m40s by 4 at 3m20s tries 7 rows [4]", fmt.Sprintf("4 a taken 3m20s by 0 at %v tries 1 rows [5]", never),
	}
	if !slices.Equal(got, want) {
		t.Errorf("ledger\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAnEmptyDatabaseFindsNothing(t *testing.T) {
	report := audit.Judge(audit.Evidence{Job: "scheduler", Group: "g"}, skew)
	if len(report.Findings)+len(report.Remarks)+len(report.Epochs) != 0 {
		t.Errorf("%+v", report)
	}
}

// TestATrimmedLedgerFindsNothing: the oldest lines are dropped, one by one.
func TestATrimmedLedgerFindsNothing(t *testing.T) {
	whole := clean()
	whole.Schedulers = nil // they are of epochs that the ledger does not know any more
	for len(whole.Events) > 1 {
		whole.Events = whole.Events[1:]
		if got := audit.Judge(*whole, skew).Findings; len(got) != 0 {
			t.Fatalf("from line %d on: %+v", whole.Events[0].ID, got)
		}
	}
	released := &audit.Evidence{Row: fence.Row{Epoch: 9, Node: "b"}, Events: []audit.Event{event(2000, 9, "b", fence.Stopped, at(1)), event(2001, 9, "b", fence.Released, at(2))}}
	if got := audit.Judge(*released, skew).Findings; len(got) != 0 {
		t.Errorf("a release whose take has left the ledger: %+v", got)
	}
}

// problem is one thing that is seeded into the clean history, and what is found then.
type problem struct {
	name string
	seed func(e *audit.Evidence)
	kind audit.Kind
	want string
}

// ofTheFence are problems of ledger and row.
func ofTheFence() []problem {
	return []problem{
		{"a lower epoch after a higher one", func(e *audit.Evidence) {
			e.Events = append(e.Events, event(30, 3, "b", fence.Taken, at(300)), event(31, 5, "a", fence.Taken, at(301)))
			e.Row = fence.Row{Epoch: 5, Node: "a"}
			e.Roles[2] = audit.Role{Name: "df_g_scheduler_e5", Epoch: 5, Login: true, Member: true}
			e.Sessions, e.Schedulers = nil, nil
		}, audit.LedgerOrder, "epoch 3 (b) was taken after epoch 4 (a)"},
		{"an epoch taken twice", func(e *audit.Evidence) {
			e.Events = append(e.Events, event(30, 4, "b", fence.Taken, at(300)))
			e.Row.Node = "b"
		}, audit.LedgerOrder, "epoch 4 was taken twice: by a, then by b"},
		{"a release after a newer take", func(e *audit.Evidence) {
			e.Events = append(e.Events, event(30, 1, "a", fence.Released, at(300)))
		}, audit.LedgerOrder, "epoch 1 (a) was released after epoch 4 (a) was taken"},
		{"a process tree without a take", func(e *audit.Evidence) {
			e.Events = append(e.Events, event(30, 3, "b", fence.Started, at(150)))
		}, audit.LedgerOrder, "epoch 3 had a process tree on b, and was not taken"},
		{"a process tree on another node", func(e *audit.Evidence) {
			e.Events = append(e.Events, event(30, 4, "b", fence.Started, at(300)))
		}, audit.LedgerOrder, "epoch 4 was taken by a, and a process tree of it was on b"},
		{"a higher row", func(e *audit.Evidence) {
			e.Row.Epoch = 6
			e.Roles[2] = audit.Role{Name: "df_g_scheduler_e6", Epoch: 6, Login: true, Member: true}
			e.Sessions = nil
		}, audit.RowDiffers, "at epoch 6 of a, the newest take is epoch 4 of a"},
		{"a lower row", func(e *audit.Evidence) {
			e.Row = fence.Row{Epoch: 2, Node: "b"}
			e.Roles = e.Roles[:2]
			e.Sessions = nil
		}, audit.RowDiffers, "at epoch 2 of b, the newest take is epoch 4 of a"},
		{"another node's row", func(e *audit.Evidence) { e.Row.Node = "b" }, audit.RowDiffers, "at epoch 4 of b, the newest take is epoch 4 of a"},
		{"a row and no ledger", func(e *audit.Evidence) { e.Events, e.Schedulers = nil, nil }, audit.RowDiffers, "and the ledger has no take"},
	}
}

// ofTheRest are problems of roles, processes and tries.
func ofTheRest() []problem {
	return []problem{
		{"an old role that may log in", func(e *audit.Evidence) { e.Roles[1].Login = true }, audit.RoleArmed, "role df_g_scheduler_e2 may log in, and the fence row is at epoch 4"},
		{"an old role in the group", func(e *audit.Evidence) { e.Roles[0].Member = true }, audit.RoleArmed, "role df_g_scheduler_e1 is a member of g,"},
		{"a role above the row", func(e *audit.Evidence) {
			e.Roles = append(e.Roles, audit.Role{Name: "df_g_scheduler_e9", Epoch: 9, Login: true, Member: true})
		}, audit.RoleArmed, "role df_g_scheduler_e9 may log in and is a member of g"},
		{"a released role that is armed", func(e *audit.Evidence) {
			e.Events = append(e.Events, event(30, 4, "a", fence.Released, at(300)))
		}, audit.RoleArmed, "and its epoch was released"},
		{"an old session", func(e *audit.Evidence) {
			e.Sessions = append(e.Sessions, audit.Session{PID: 77, Epoch: 2, Since: at(110), State: "active"})
		}, audit.OldSession, "session 77 is of epoch 2 (active, since 2026-01-01T00:01:50.000Z)"},
		{"a prepared transaction", func(e *audit.Evidence) {
			e.Prepared = []audit.Prepared{{Name: "mine", Epoch: 4}, {Name: "later", Epoch: 1}}
		}, audit.OldSession, `transaction "later" is prepared by epoch 1`},
		{"two trees on one host", func(e *audit.Evidence) {
			e.Events = append(e.Events, event(30, 5, "a", fence.Taken, at(300)), event(31, 5, "a", fence.Started, at(301)), event(32, 4, "a", fence.Stopped, at(300.5)))
			e.Row = fence.Row{Epoch: 5, Node: "a"}
			e.Roles[2] = audit.Role{Name: "df_g_scheduler_e5", Epoch: 5, Login: true, Member: true}
			e.Sessions, e.Schedulers = nil, nil
		}, audit.Overlap, "the process tree of epoch 4 on a was empty only after that of epoch 5 had begun there"},
		{"an old scheduler that goes on", func(e *audit.Evidence) {
			e.Schedulers[3].State, e.Schedulers[3].Beat = "running", at(203)
		}, audit.Overlap, "scheduler row 4 (b, running) began before epoch 4 was taken and beat for 3s after that"},
		{"a scheduler of before the first take", func(e *audit.Evidence) {
			e.Schedulers[0].State, e.Schedulers[0].Beat = "running", at(480)
		}, audit.Overlap, "scheduler row 1 (old, running) began before epoch 1 was taken and beat for 7m50s"},
		{"an old scheduler that began shortly before the take", func(e *audit.Evidence) {
			e.Schedulers = append(e.Schedulers, audit.Scheduler{ID: 6, Host: "b", State: "running", Start: at(199), Beat: at(499)})
		}, audit.Overlap, "scheduler rows 5 (a) and 6 (b) both beat in epoch 4"},
		{"two schedulers in one epoch", func(e *audit.Evidence) {
			e.Schedulers = append(e.Schedulers, audit.Scheduler{ID: 6, Host: "c", State: "running", Start: at(400), Beat: at(499)})
		}, audit.Overlap, "scheduler rows 5 (a) and 6 (c) both beat in epoch 4, beside each other for 1m39s"},
		{"a try that began twice", func(e *audit.Evidence) {
			lines(e, "twice", at(205), "running", "running")
		}, audit.TryTwice, "try 1 of task twice, run r, DAG d began at 2026-01-01T00:03:25.000Z on w0 and at 2026-01-01T00:03:26.000Z on w1"},
		{"a try that began again after its end", func(e *audit.Evidence) {
			lines(e, "again", at(205), "running", "success", "running")
			for n := range 3 {
				e.Lines[len(e.Lines)-1-n].Try.Map = 3
			}
		}, audit.TryTwice, "DAG d, map index 3 began"},
	}
}

func TestWhatMustNotBeIsFound(t *testing.T) {
	for _, test := range slices.Concat(ofTheFence(), ofTheRest()) {
		t.Run(test.name, func(t *testing.T) {
			e := clean()
			test.seed(e)
			got := audit.Judge(*e, skew).Findings
			if len(got) != 1 || got[0].Kind != test.kind || !strings.Contains(got[0].Detail, test.want) || got[0].Mend == "" {
				t.Errorf("findings %+v\nwant one %q with %q", got, test.kind, test.want)
			}
		})
	}
}

// TestTheSkewOfClocksIsNoFinding: what lies closer together than clocks may be apart is not judged, and no more than that.
func TestTheSkewOfClocksIsNoFinding(t *testing.T) {
	for beat, want := range map[float64]int{201.9: 0, 202.1: 1} {
		e := clean()
		e.Schedulers[3].Beat = at(beat)
		if got := audit.Judge(*e, skew).Findings; len(got) != want {
			t.Errorf("last heartbeat at %v: %+v, want %d", beat, got, want)
		}
	}
}

// TestALateClockIsNoOverlap: the only scheduler of an epoch seems to begin before its take, and the epoch before has none.
func TestALateClockIsNoOverlap(t *testing.T) {
	e := clean()
	e.Schedulers = slices.Delete(e.Schedulers, 3, 4)
	e.Schedulers[3].Start = at(198.5)
	report := audit.Judge(*e, skew)
	if last := report.Epochs[len(report.Epochs)-1]; len(report.Findings) != 0 || len(last.Schedulers) != 1 {
		t.Errorf("findings %+v, rows of the last epoch %+v", report.Findings, last.Schedulers)
	}
}

func TestRemarks(t *testing.T) {
	e := clean()
	e.Schedulers, e.Events[6].At = nil, at(90) // take of epoch 4
	if all := strings.Join(audit.Judge(*e, skew).Remarks, "\n"); !strings.Contains(all, "clock went back by 10s between the takes of epochs 2 and 4") {
		t.Errorf("remarks %s", all)
	}
	e = clean()
	e.Schedulers[3].State = "running"
	e.Unseen = []audit.Unseen{{What: "Airflow", Absent: true}}
	report := audit.Judge(*e, skew)
	if all := strings.Join(report.Remarks, "\n"); !strings.Contains(all, "scheduler row 4 (b) of before epoch 4 is still called running: nobody has adopted its tasks") {
		t.Errorf("remarks %s", all)
	}
	if !report.Complete() {
		t.Error("what is not there to be seen makes it incomplete")
	}
	e.Unseen = append(e.Unseen, audit.Unseen{What: "sessions"})
	if audit.Judge(*e, skew).Complete() {
		t.Error("complete without the sessions")
	}
}
