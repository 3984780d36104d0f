package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/admin"
	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// rivalLog agrees on something else before it agrees on what is proposed.
type rivalLog struct {
	soleLog
	first lease.Command
	err   error // what Propose says in the end
}

func (l *rivalLog) Propose(ctx context.Context, command []byte) error {
	if err := l.soleLog.Propose(ctx, l.first.Encode()); err != nil {
		return err
	}
	return errors.Join(l.soleLog.Propose(ctx, command), l.err)
}

// rivalled is a node whose log has granted the job to a under epoch 1, and that has a majority.
func rivalled(t *testing.T, first lease.Command) (*Node, *rivalLog) {
	t.Helper()
	cfg := soleConfig("scheduler")
	wire := NewWire(cfg, nil)
	log := &rivalLog{soleLog: soleLog{wire: wire}, first: first}
	n, err := New(Parts{Config: cfg, Token: lifeA, Wire: wire, Log: log, Gossip: alone{},
		Jobs: map[lease.JobName]HostedJob{"scheduler": &stubJob{}}})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []lease.Command{configured(), granted("scheduler", 1)} {
		wire.StateMachine().Apply(uint64(i+1), c.Encode())
	}
	n.picture = picture{quorumAt: n.machine.Boot().Add(time.Hour)} // so that no pause of this test is one of the majority
	return n, log
}

func kindOf(err error) duoflowv1.Problem_Kind {
	var problem *admin.Problem
	if !errors.As(err, &problem) {
		return duoflowv1.Problem_KIND_UNSPECIFIED
	}
	return problem.Kind
}

// TestARefusedMoveIsNotAccepted: the job moved while the operator's wish was on its way, so the wish is for an epoch that is over.
func TestARefusedMoveIsNotAccepted(t *testing.T) {
	n, _ := rivalled(t, granted("scheduler", 2))
	err := n.ask(t.Context(), transfer{job: "scheduler", move: lease.Move{Now: true}}, n.wire.ledger.job("scheduler"))
	if kindOf(err) != duoflowv1.Problem_KIND_MOVED {
		t.Errorf("a wish for epoch 1 that came after epoch 2: %v, want KIND_MOVED", err)
	}
	n, _ = rivalled(t, lease.Command{Ask: &lease.Ask{Job: "scheduler", Epoch: 1, Move: lease.Move{To: "b"}}})
	before := n.wire.ledger.job("scheduler")
	if err := n.ask(t.Context(), transfer{job: "scheduler", move: lease.Move{To: "a"}}, before); kindOf(err) != duoflowv1.Problem_KIND_UNSAFE {
		t.Errorf("a wish for the holder, while another one is pending: %v, want KIND_UNSAFE", err)
	}
	if err := n.ask(t.Context(), transfer{job: "scheduler", move: lease.Move{Now: true}}, before); err != nil {
		t.Errorf("a wish for this epoch: %v", err)
	}
	if move := n.wire.ledger.job("scheduler").Move; move == nil || !move.Now {
		t.Errorf("pending: %+v, want the last wish", move)
	}
	if len(n.wire.ledger.watched) != 0 {
		t.Errorf("%d commands are still watched", len(n.wire.ledger.watched))
	}
}

// TestAMoveOfUnknownOutcomeIsNotRefused: what may still be agreed on is not said to have no quorum.
func TestAMoveOfUnknownOutcomeIsNotRefused(t *testing.T) {
	n, log := rivalled(t, configured())
	log.err = context.DeadlineExceeded
	_, err := n.Operators().Switchover(t.Context(), &duoflowv1.SwitchoverRequest{Job: "scheduler", To: "b"})
	if kindOf(err) != duoflowv1.Problem_KIND_TIMEOUT {
		t.Errorf("got %v, want KIND_TIMEOUT", err)
	}
	if n.wire.ledger.job("scheduler").Move == nil {
		t.Error("the wish is not in the log: this test is worth nothing")
	}
}

// TestLinearizableReads: who asks for it is answered by a majority's word, or not at all.
func TestLinearizableReads(t *testing.T) {
	n, log := rivalled(t, configured())
	n.picture.quorumAt = 0 // nobody was heard for long
	for _, leaderless := range []bool{false, true} {
		log.leaderless = leaderless
		status, err := n.Operators().Status(t.Context(), &duoflowv1.StatusRequest{Linearizable: true})
		_, again := n.Operators().History(t.Context(), &duoflowv1.HistoryRequest{Linearizable: true})
		switch {
		case leaderless && (kindOf(err) != duoflowv1.Problem_KIND_NO_QUORUM || kindOf(again) != duoflowv1.Problem_KIND_NO_QUORUM):
			t.Errorf("no majority: %v, %v, want KIND_NO_QUORUM", err, again)
		case !leaderless && (err != nil || again != nil || !status.GetView().GetAuthoritative()):
			t.Errorf("a majority: %v, %v, %v", status.GetView(), err, again)
		}
		status, err = n.Operators().Status(t.Context(), nil)
		if err != nil || status.GetView().GetAuthoritative() || status.GetJobs()[0].GetEpoch() != 1 {
			t.Errorf("without: %v, %v; want the local view, always", status, err)
		}
	}
}

// TestWhoLagsHasNoAuthority: a node with a new disk hears everybody before it has read what they have agreed on.
func TestWhoLagsHasNoAuthority(t *testing.T) {
	n, _ := rivalled(t, configured())
	authority := func() *duoflowv1.View {
		status, err := n.Operators().Status(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return status.GetView()
	}
	now := n.machine.Boot()
	n.picture.quorumAt = now
	n.picture.heard = map[lease.NodeID]control.Instant{"b": now}
	for epoch, want := range map[lease.Epoch]bool{0: true, 1: true, 2: false} {
		n.picture.beats = map[lease.NodeID]beat{"b": {Node: "b", Jobs: map[lease.JobName]control.Report{"scheduler": {Epoch: epoch}}}}
		if view := authority(); view.GetAuthoritative() != want || !want && !strings.Contains(view.GetReason(), "b is in epoch 2") {
			t.Errorf("b speaks of epoch %d, the log of 1: %v", epoch, view)
		}
	}
	n.picture.heard["b"] = now.Add(-time.Minute)
	if view := authority(); !view.GetAuthoritative() {
		t.Errorf("what was said long ago counts: %v", view)
	}
}

// TestHistoryIsInTheLogsOrder: hosts' clocks differ, and no list of one job may be sorted by them.
func TestHistoryIsInTheLogsOrder(t *testing.T) {
	entry := func(job string, epoch uint64, at int64) *duoflowv1.HistoryEntry {
		return &duoflowv1.HistoryEntry{Job: job, Epoch: epoch, AtUnixMs: at}
	}
	var got []string
	for _, e := range newestFirst([][]*duoflowv1.HistoryEntry{
		{entry("etl", 9, 50), entry("etl", 8, 90), entry("etl", 7, 10)}, nil, {entry("scheduler", 2, 60), entry("scheduler", 1, 40)},
	}, 100) {
		got = append(got, fmt.Sprint(e.GetJob(), " ", e.GetEpoch()))
	}
	if want := "scheduler 2, etl 9, etl 8, scheduler 1, etl 7"; strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	n, _ := rivalled(t, configured())
	release := lease.Command{Release: &lease.Release{Job: "scheduler", Epoch: 1, Token: lifeA, Cause: lease.CauseExited, At: -5}}
	n.wire.StateMachine().Apply(3, release.Encode())
	answer, err := n.Operators().History(t.Context(), &duoflowv1.HistoryRequest{Job: "scheduler", Limit: 1})
	if err != nil || len(answer.GetEntries()) != 1 || answer.GetEntries()[0].GetKind() != "release" {
		t.Errorf("newest: %v, %v; want the release, though its clock was late", answer, err)
	}
}
