package node

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

var (
	lifeA = lease.Token(strings.Repeat("a", 32))
	lifeB = lease.Token(strings.Repeat("b", 32))
)

func configured() lease.Command {
	return lease.Command{Configure: &lease.Configure{
		Nodes: []lease.Node{{ID: "a"}, {ID: "b"}, {ID: "t", Witness: true}}, Jobs: []lease.JobName{"etl", "scheduler"},
	}}
}

func granted(job lease.JobName, next lease.Epoch) lease.Command {
	return lease.Command{Grant: &lease.Grant{Job: job, Expect: next - 1, Next: next, Node: "a", Token: lifeA}}
}

// told writes the letters that wait in a mailbox, and takes them out.
func told(m *mailbox) string {
	var lines []string
	for _, l := range m.empty() {
		to := "all"
		if l.job != "" {
			to = string(l.job)
		}
		switch in := l.input.(type) {
		case control.Lease:
			lines = append(lines, fmt.Sprintf("%s: %s is %s at %d", to, in.Job.Name, in.Job.Phase, in.Job.Epoch))
		case control.Members:
			lines = append(lines, fmt.Sprintf("%s: %d members", to, len(in.Nodes)))
		default:
			lines = append(lines, fmt.Sprintf("%s: %T %+v", to, in, in))
		}
	}
	return strings.Join(lines, "; ")
}

func TestLedgerTellsWhatChanged(t *testing.T) {
	mail := newMailbox()
	l := newLedger(mail)
	for i, tt := range []struct {
		do   lease.Command
		want string
	}{
		{configured(), "all: 3 members; all: etl is vacant at 0; all: scheduler is vacant at 0"},
		{granted("scheduler", 1), "all: scheduler is granted at 1"}, // etl may follow it
		{granted("scheduler", 1), ""},                               // refused
		{granted("ghost", 1), ""},
		{lease.Command{Ask: &lease.Ask{Job: "scheduler", Epoch: 1}}, "all: scheduler is granted at 1"},
		{lease.Command{Release: &lease.Release{Job: "scheduler", Epoch: 1, Token: lifeA}}, "all: scheduler is released at 1"},
		{lease.Command{Report: &lease.Report{Job: "scheduler", Epoch: 1}}, "all: scheduler is released at 1"},
		{lease.Command{Observe: &lease.Observe{Job: "etl", Epoch: 7, Node: "b", Token: lifeB}}, "all: etl is granted at 7"},
	} {
		l.Apply(uint64(i+1), tt.do.Encode())
		if got := told(mail); got != tt.want {
			t.Errorf("%s: told %q, want %q", tt.do.Encode()[1:], got, tt.want)
		}
	}
	if l.applied != 8 {
		t.Errorf("applied = %d, want 8", l.applied)
	}
	if job := l.job("etl"); job.Epoch != 7 || job.Holder != "b" {
		t.Errorf("job etl = %+v", job)
	}
	if job := l.job("ghost"); job.Phase != lease.Vacant {
		t.Errorf("unknown job = %+v, want a vacant one", job)
	}
}

func TestLedgerSnapshot(t *testing.T) {
	old, mail := newLedger(newMailbox()), newMailbox()
	old.Apply(1, configured().Encode())
	old.Apply(2, granted("scheduler", 1).Encode())
	snapshot, err := old.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	restored := newLedger(mail)
	if err := restored.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if got, want := told(mail), "all: 3 members; all: etl is vacant at 0; all: scheduler is granted at 1"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if again, _ := restored.Snapshot(); string(again) != string(snapshot) {
		t.Errorf("snapshot of the restored: %s, want %s", again, snapshot)
	}
	for _, bad := range []string{"", "\x02{}", "\x01{", string(snapshot) + "x"} {
		if err := restored.Restore([]byte(bad)); err == nil {
			t.Errorf("restored %q", bad)
		}
	}
	if again, _ := restored.Snapshot(); string(again) != string(snapshot) || told(mail) != "" {
		t.Error("a snapshot that was refused changed the state, or was told of")
	}
}

// TestLedgerStopsAtWhatItCannotRead: to skip an entry that others carry out would be to disagree with them for ever.
func TestLedgerStopsAtWhatItCannotRead(t *testing.T) {
	for entry, want := range map[string]string{
		"\x02{}":          "node: log entry 7: decode command: format 2 is not known to this version of duoflowd",
		"":                "node: log entry 7: decode command: empty",
		"\x01{}":          "node: log entry 7: decode command: 0 kinds are set",
		"\x01{\"new\":1}": "node: log entry 7: decode command: json: unknown field",
	} {
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.HasPrefix(said, want) {
					t.Errorf("%q: panic = %s, want %s", entry, said, want)
				}
			}()
			newLedger(newMailbox()).Apply(7, []byte(entry))
		}()
	}
}

func TestLedgerTryChangesNothing(t *testing.T) {
	l := newLedger(newMailbox())
	l.Apply(1, configured().Encode())
	before, _ := l.Snapshot()
	told(l.mail)
	if out := l.try(granted("scheduler", 1)); !out.Accepted {
		t.Errorf("try: %+v, want it accepted", out)
	}
	if out := l.try(granted("scheduler", 0)); out.Accepted || out.Why == "" {
		t.Errorf("try: %+v, want a refusal with its reason", out)
	}
	if after, _ := l.Snapshot(); string(after) != string(before) || told(l.mail) != "" || l.applied != 1 {
		t.Error("trying changed the state, or was told of")
	}
}

func TestLedgerLacks(t *testing.T) {
	l := newLedger(newMailbox())
	nodes, jobs := configured().Configure.Nodes, configured().Configure.Jobs
	if !l.lacks(nodes, jobs) {
		t.Error("a new cluster lacks nothing")
	}
	l.Apply(1, configured().Encode())
	for _, tt := range []struct {
		name  string
		nodes []lease.Node
		jobs  []lease.JobName
		want  bool
	}{
		{"the same", nodes, jobs, false},
		{"fewer jobs", nodes, jobs[:1], false}, // an epoch is never forgotten
		{"another job", nodes, append(jobs[:2:2], "more"), true},
		{"fewer nodes", nodes[:2], jobs, true},
		{"another witness", []lease.Node{{ID: "a"}, {ID: "b", Witness: true}, {ID: "t", Witness: true}}, jobs, true},
	} {
		if got := l.lacks(tt.nodes, tt.jobs); got != tt.want {
			t.Errorf("%s: lacks = %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMailboxKeepsTheOrder(t *testing.T) {
	m := newMailbox()
	if m.empty() != nil {
		t.Error("a new mailbox holds letters")
	}
	m.post("scheduler", control.Exited{Epoch: 1})
	m.postBeat(beat{Node: "b"})
	m.post("", control.Tick{})
	all := m.empty()
	if len(all) != 3 || all[0].job != "scheduler" || all[1].beat == nil || all[1].beat.Node != "b" || all[2].job != "" {
		t.Errorf("letters = %+v, want three in the order they were posted", all)
	}
	if len(m.rings) != 1 {
		t.Errorf("%d rings, want one for all three", len(m.rings))
	}
	if m.empty() != nil {
		t.Error("letters are delivered twice")
	}
}

// TestMailboxNeverBlocks: those who post hold other people's locks. Nobody empties it here.
func TestMailboxNeverBlocks(t *testing.T) {
	m := newMailbox()
	var posters sync.WaitGroup
	for p := range 8 {
		posters.Go(func() {
			for i := range 1000 {
				m.post(lease.JobName(fmt.Sprint("p", p)), control.Exited{Epoch: lease.Epoch(i)})
			}
		})
	}
	done := make(chan struct{})
	go func() { posters.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("posting blocks")
	}
	next := map[lease.JobName]lease.Epoch{}
	for _, l := range m.empty() {
		if epoch := l.input.(control.Exited).Epoch; epoch != next[l.job] {
			t.Fatalf("%s: letter %d came when %d was due", l.job, epoch, next[l.job])
		}
		next[l.job]++
	}
	if len(next) != 8 || next["p0"] != 1000 {
		t.Errorf("received %v, want 1000 of each of 8", next)
	}
}

// TestMailboxOverflows: a dead loop must not look alive.
func TestMailboxOverflows(t *testing.T) {
	m := newMailbox()
	m.letters = make([]letter, mailboxCap)
	defer func() {
		if said := fmt.Sprint(recover()); !strings.Contains(said, "the loop is stuck") {
			t.Errorf("panic = %s, want that the loop is stuck", said)
		}
	}()
	m.post("", control.Tick{})
}
