package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// retold is a tale as text.
func retold(t *testing.T, history []lease.Entry, epoch lease.Epoch) string {
	t.Helper()
	tale, ok := tell(history, epoch)
	if !ok {
		return "unknown"
	}
	a := tale.answer
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %s after %d of %s: %s\n", a.GetEpoch(), a.GetNode(), a.GetBefore(), a.GetFrom(), a.GetCause())
	for _, s := range a.GetSteps() {
		b.WriteString(stepText(s) + "\n")
	}
	fmt.Fprintf(&b, "whole %g, %g in no step\n", a.GetWholeMs(), a.GetUnaccountedMs())
	return b.String()
}

func stepText(s *duoflowv1.TimelineStep) string {
	at := "-"
	if s.AtMs != nil {
		at = fmt.Sprint(s.GetAtMs())
	}
	return fmt.Sprintf("%s +%g %s %s", at, s.GetTookMs(), s.GetName(), s.GetNode())
}

func timing(name string, millis int) lease.Timing {
	return lease.Timing{Name: name, Took: time.Duration(millis) * time.Millisecond}
}

func TestTell(t *testing.T) {
	takeover := []lease.Timing{timing("fence", 10), timing("drain", 20), timing("adopt", 5), timing("start", 15)}
	history := []lease.Entry{
		{Kind: lease.KindGrant, Epoch: 1, Node: "a", Cause: lease.CauseFirst, Phases: takeover},
		{Kind: lease.KindPause, Epoch: 1, Node: "a", Cause: lease.CauseOperator, Detail: "moves by eve"},
		{Kind: lease.KindGrant, Epoch: 2, Node: "b", Cause: lease.CauseSilent, By: "t",
			// As they come: the grant is reported before the takeover, or after.
			Phases: append([]lease.Timing{timing("detect", 300), timing("whole", 358), timing("grant", 4)}, takeover...)},
		{Kind: lease.KindRelease, Epoch: 2, Node: "b", Cause: lease.CauseSwitchover},
		{Kind: lease.KindGrant, Epoch: 3, Node: "a", Cause: lease.CauseSwitchover, By: "t",
			Phases: append([]lease.Timing{timing("grant", 4), timing("stop", 100), timing("whole", 157)}, takeover...)},
		{Kind: lease.KindObserve, Epoch: 9, Node: "b", Cause: lease.CauseForced},
	}
	for epoch, want := range map[lease.Epoch]string{
		1: `1 of a after 0 of : first
0 +0 decision 
0 +0 grant 
0 +10 fence a
10 +20 drain a
30 +5 adopt a
35 +15 start a
- +0 pause a
whole 0, 0 in no step
`,
		2: `2 of b after 1 of a: silent
- +0 pause a
0 +300 signal t
300 +0 decision t
300 +4 grant t
304 +10 fence b
314 +20 drain b
334 +5 adopt b
339 +15 start b
358 +0 running t
- +0 release b
whole 358, 4 in no step
`,
		3: `3 of a after 2 of b: switchover
- +0 release b
0 +100 signal t
100 +0 decision t
100 +4 grant t
104 +10 fence a
114 +20 drain a
134 +5 adopt a
139 +15 start a
157 +0 running t
whole 157, 3 in no step
`,
		9: `9 of b after 3 of a: forced
0 +0 decision 
0 +0 observe 
whole 0, 0 in no step
`,
		4: "unknown",
	} {
		if got := retold(t, history, epoch); got != want {
			t.Errorf("epoch %d:\n%s\nwant\n%s", epoch, got, want)
		}
	}
}

// TestWhetherItRuns: what the holder said last need not be of this epoch, and it need not have said anything.
func TestWhetherItRuns(t *testing.T) {
	job := lease.Job{Name: "scheduler", Epoch: 7, Holder: "b", Phase: lease.Granted}
	for want, said := range map[string]control.Report{
		"": {State: control.Active, Epoch: 7},
		"whether it is running is not known: b was not heard":                       {},
		"it is not running yet: b is standby":                                       {State: control.Standby},
		"it is not running yet: b is fencing":                                       {State: control.Fencing, Epoch: 7},
		"it is not running yet, as far as is known: b was heard last under epoch 5": {State: control.Active, Epoch: 5},
	} {
		told := &tale{answer: &duoflowv1.ExplainResponse{}}
		told.now(job, said)
		if got := strings.Join(told.answer.GetRemarks(), "; "); got != want {
			t.Errorf("%+v: %q, want %q", said, got, want)
		}
	}
}
