package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// TestSayingIsTheSameForAWhile, so that beats that say it are too; and what is new is said at once.
func TestSayingIsTheSameForAWhile(t *testing.T) {
	var s saying
	now := control.Instant(time.Hour)
	long := airflowctl.Line{Text: "loading", At: time.Now().Add(-time.Minute)}
	first := s.at(long, "", now)
	if first.Text != "loading" || first.Age < time.Minute {
		t.Errorf("said %+v, want the line with its age of a minute", first)
	}
	if again := s.at(long, "", now.Add(ageEvery-1)); again != first {
		t.Errorf("a little later: %+v, want %+v", again, first)
	}
	fresh := s.at(airflowctl.Line{Text: "loaded", At: time.Now()}, "", now.Add(time.Millisecond))
	if fresh.Text != "loaded" || fresh.Age > 30*time.Second {
		t.Errorf("something new: %+v", fresh)
	}
	if back := s.at(long, "", now.Add(2*time.Millisecond)); back.Age < first.Age {
		t.Errorf("the other again: %+v, want an age of at least %s", back, first.Age)
	}
	older := s.at(long, "", now.Add(3*ageEvery))
	if older == first || older.Age < first.Age {
		t.Errorf("after a while: %+v, want its age anew", older)
	}
	if got := s.at(long, "next slot", now.Add(3*ageEvery)); got.Slots != "next slot" || got.Text != long.Text {
		t.Errorf("something new of the schedule: %+v", got)
	}
	if got := s.at(airflowctl.Line{}, "next slot", now); got != (line{Slots: "next slot"}) {
		t.Errorf("only of the schedule: %+v", got)
	}
	if got := s.at(airflowctl.Line{}, "", now); got != (line{}) {
		t.Errorf("nothing is said: %+v", got)
	}
}

// TestAgeOfALine is what its host said it was plus the time since that was first heard here: no clocks are compared.
func TestAgeOfALine(t *testing.T) {
	h, start := newHearing(), control.Instant(time.Hour)
	job := lease.Job{Name: "etl", Epoch: 3}
	say := func(at time.Duration, l line) {
		b := beat{Node: "b", Jobs: map[lease.JobName]control.Report{"etl": {Epoch: 3}}}
		b.addLine("etl", l)
		h.note(b, start.Add(at))
	}
	shown := func(at time.Duration, job lease.Job) string {
		l := picture{beats: h.beats}.line(job, "b", start.Add(at))
		return fmt.Sprintf("%s after %s", l.Text, l.Age)
	}
	for _, tt := range []struct {
		at   time.Duration
		said line
		want string
	}{
		{0, line{Text: "one", Age: 5 * time.Second}, "one after 5s"},
		{50 * time.Millisecond, line{Text: "one", Age: 5 * time.Second}, "one after 5.05s"},
		{900 * time.Millisecond, line{Text: "one", Age: 5 * time.Second}, "one after 5.9s"},
		{time.Second, line{Text: "one", Age: 6 * time.Second}, "one after 6s"},
		{1100 * time.Millisecond, line{Text: "two", Age: 0}, "two after 0s"},
		{2 * time.Second, line{Text: "two", Age: 0}, "two after 900ms"},
		{3 * time.Second, line{}, " after 0s"},
		{4 * time.Second, line{Text: "two", Age: 0}, "two after 0s"}, // the same, written again
	} {
		say(tt.at, tt.said)
		if got := shown(tt.at, job); got != tt.want {
			t.Errorf("after %s: %s, want %s", tt.at, got, tt.want)
		}
	}
	if got := shown(time.Minute, job); got != "two after 56s" {
		t.Errorf("a node that is not heard any more: %s", got)
	}
	job.Epoch++
	if got := shown(time.Minute, job); got != " after 0s" {
		t.Errorf("under the next epoch: %s, want nothing", got)
	}
}

// TestPeersLinesAreCleaned: a peer may be of another version, or worse.
func TestPeersLinesAreCleaned(t *testing.T) {
	payload := fmt.Sprintf(`{"node":"b","lines":{"etl":{"text":"a\u001b[2J\u202eb %s\nmore","age":-5,"slots":"\u0007next"}}}`, strings.Repeat("x", 5000))
	b, err := decodeBeat([]byte(payload))
	if got := b.Lines["etl"]; err != nil || len(got.Text) != 200 || !strings.HasPrefix(got.Text, "a[2Jb xxx") || got.Age != 0 || got.Slots != "next" {
		t.Errorf("got %q, %s, %v", got.Text, got.Age, err)
	}
}

// TestLineReachesTheSurfaces: what the job says is shown by the node itself, and is gone when the job says nothing; the log
// never hears of it.
func TestLineReachesTheSurfaces(t *testing.T) {
	d := start(t, soleConfig("etl"), nil)
	d.await("it is active", func() bool { return d.active("etl", 1) })
	const slots = "next slot 2026-11-26T02:00:00Z"
	say := func(l airflowctl.Line, slots string) {
		d.jobs["etl"].mu.Lock()
		defer d.jobs["etl"].mu.Unlock()
		d.jobs["etl"].line, d.jobs["etl"].slots = l, slots
	}
	shown := func() *duoflowv1.JobOnNode {
		answer, err := d.node.Operators().Status(t.Context(), &duoflowv1.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetJobs()[0].GetNodes()[0]
	}
	if got := shown(); got.GetStatus() != "" || got.StatusAgeMs != nil {
		t.Errorf("before it said anything: %v", got)
	}
	const text = "2019: ingest 1.2 M rows"
	say(airflowctl.Line{Text: text, At: time.Now().Add(-12 * time.Second)}, slots)
	d.await("operators are told", func() bool { return shown().GetStatus() == text })
	if age := shown().GetStatusAgeMs(); age < 12_000 || age > 60_000 {
		t.Errorf("age %d ms, want 12 s and little more", age)
	}
	if got := shown().GetSchedule(); got != slots {
		t.Errorf("schedule %q", got)
	}
	if v := d.node.View().Jobs[0]; v.Status != text || v.StatusAgeMS < 12_000 || v.Schedule != slots {
		t.Errorf("view = %+v", v)
	}
	if age := gauge(t, d.node, "duoflow_job_status_age_seconds"); age < 12 {
		t.Errorf("metric says %v s", age)
	}
	if snapshot, err := d.node.wire.ledger.Snapshot(); err != nil || strings.Contains(string(snapshot), text) {
		t.Errorf("the log has it: %s, %v", snapshot, err)
	}
	for _, done := range []float64{3, 4} { // what it counts is a metric that moves
		d.jobs["etl"].count(airflowctl.Number{Name: "chunks_done", Value: done})
		if got := gauge(t, d.node, "duoflow_job_reported"); got != done {
			t.Errorf("metric says %v chunks, want %v", got, done)
		}
	}
	d.jobs["etl"].count()
	if got := gauge(t, d.node, "duoflow_job_reported"); got != -1 {
		t.Errorf("metric says %v of nothing", got)
	}
	say(airflowctl.Line{}, "")
	d.await("it is gone", func() bool {
		return shown().GetStatus() == "" && shown().GetSchedule() == "" && d.node.View().Jobs[0].Status == ""
	})
	if age := gauge(t, d.node, "duoflow_job_status_age_seconds"); age != -1 {
		t.Errorf("metric says %v s of nothing", age)
	}
}

// gauge returns the one value of a metric, -1 when there is none.
func gauge(t *testing.T, n *Node, name string) float64 {
	t.Helper()
	families, err := n.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return -1
}
