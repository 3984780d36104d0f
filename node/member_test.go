package node

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore"
)

func threeNodes() Config {
	cfg := soleConfig("scheduler")
	cfg.Nodes = map[string]Member{
		"a": {Peer: "h:1"}, "b": {Peer: "h:2", Gossip: "g:2"}, "t": {Peer: "h:3", Witness: true},
	}
	return cfg
}

// TestMembersComeBackFromTheLog has them the same there as in the configuration, until somebody changes them.
func TestMembersComeBackFromTheLog(t *testing.T) {
	cfg := threeNodes()
	peers := cfg.Peers()
	if got := fromRoster(raftstore.Roster{Members: peers}); !slices.Equal(got.all, cfg.configured().all) {
		t.Errorf("from the log come %+v, of %+v", got.all, cfg.configured().all)
	}
	peers[1].Learner, peers[2].Note = true, `{"of a":"newer version"}`
	got := fromRoster(raftstore.Roster{Members: peers})
	if len(got.voters()) != 2 || got.get("b") != (member{ID: "b", Peer: "h:2", Gossip: "g:2", Joining: true}) || got.get("t").Peer != "h:3" {
		t.Errorf("from the log come %+v", got.all)
	}
	if got.get("z") != (member{}) {
		t.Error("a stranger is known")
	}
	cfg.Node, cfg.Join = "b", true
	if m := cfg.configured().get("b"); !m.Joining || cfg.configured().get("a").Joining {
		t.Errorf("who joins is %+v", cfg.configured().all)
	}
}

// TestRemovedMembersAreForgotten: nobody waits for their beats, and their labels go.
func TestRemovedMembersAreForgotten(t *testing.T) {
	cfg := threeNodes()
	w := NewWire(cfg, nil)
	w.Beat(RaftID("b"), beat{Node: "b"}.encode())
	h := newHearing()
	h.note(beat{Node: "a"}, 1)
	h.note(beat{Node: "b"}, 1)
	list := raftstore.Roster{Members: slices.DeleteFunc(cfg.Peers(), func(p raftstore.Peer) bool { return p.Name == "b" })}
	w.Members(list)
	h.forget(w.members.Load())
	if len(h.last) != 1 || len(h.beats) != 1 || len(w.said) != 0 || w.name(RaftID("b")) != "" {
		t.Errorf("heard %v, said %d, name %q", h.last, len(w.said), w.name(RaftID("b")))
	}
	letters := w.mail.empty()
	w.PeerLost(RaftID("b"), true)
	if rest := w.mail.empty(); len(rest) != 0 || len(letters) != 2 || !letters[1].regrouped {
		t.Errorf("letters %+v, then %+v", letters, rest)
	}
}

// TestRemovedNodeStopsItsJobFirst: it may hold one all the same, as when the fence was taken without quorum.
func TestRemovedNodeStopsItsJobFirst(t *testing.T) {
	d := start(t, soleConfig("scheduler"), nil)
	d.await("its job is active", func() bool { return d.active("scheduler", 1) })
	d.node.wire.Removed("in a test")
	err := d.end()
	d.ended = nil
	if !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), "in a test") {
		t.Errorf("Run returned %v", err)
	}
	if got := d.jobs["scheduler"].history(); !strings.Contains(got, "stop 1 within") {
		t.Errorf("the job went through %s", got)
	}
}

// TestConfigureFollowsTheLog: what the log says of the members is agreed on, whatever the configuration has.
func TestConfigureFollowsTheLog(t *testing.T) {
	d := start(t, soleConfig("scheduler"), nil)
	d.await("its job is active", func() bool { return d.active("scheduler", 1) })
	list := raftstore.Roster{Members: []raftstore.Peer{member{ID: "a", Peer: "h:1"}.peer(), member{ID: "u", Peer: "h:2", Witness: true}.peer()}}
	d.node.wire.Members(list)
	want := []lease.Node{{ID: "a"}, {ID: "u", Witness: true}}
	d.await("the members of the log are agreed on", func() bool { return slices.Equal(d.node.wire.ledger.nodes(), want) })
	list.Members[1].Learner = true
	d.node.wire.Members(list)
	d.await("who does not vote is no node of the lease", func() bool { return slices.Equal(d.node.wire.ledger.nodes(), want[:1]) })
	if job := d.node.wire.ledger.job("scheduler"); job.Epoch != 1 || d.node.snapshot().jobs["scheduler"].state != control.Active {
		t.Errorf("the job has moved: %+v", job)
	}
}

// TestSeedsFollowTheMembers: who was away, or has lost its configuration's nodes to changes, finds the others by gossip all the same.
func TestSeedsFollowTheMembers(t *testing.T) {
	w := NewWire(threeNodes(), nil)
	if got, want := w.Seeds("7401"), []string{"h:7401", "g:2", "h:7401"}; !slices.Equal(got, want) {
		t.Errorf("seeds are %q, want %q", got, want)
	}
	w.Members(raftstore.Roster{Members: []raftstore.Peer{member{ID: "c", Peer: "i:1"}.peer(), member{ID: "d", Peer: "j:1", Gossip: "k:2"}.peer()}})
	if got, want := w.Seeds("7401"), []string{"i:7401", "k:2"}; !slices.Equal(got, want) {
		t.Errorf("seeds are %q, want %q", got, want)
	}
}

// TestRetirementIsTakenBack: a removal with which nobody goes on leaves nothing.
func TestRetirementIsTakenBack(t *testing.T) {
	d := start(t, soleConfig("scheduler"), nil)
	d.await("its job is active", func() bool { return d.active("scheduler", 1) })
	list := raftstore.Roster{Members: []raftstore.Peer{member{ID: "a", Peer: "h:1"}.peer(), member{ID: "b", Peer: "h:2"}.peer()}}
	d.node.wire.Members(list)
	d.await("the members are agreed on", func() bool { return len(d.node.wire.ledger.nodes()) == 2 })
	leaves := func() bool { return slices.Contains(d.node.wire.ledger.nodes(), lease.Node{ID: "b", Leaving: true}) }
	d.node.removing.Store(true)
	out, err := d.node.agree(t.Context(), lease.Command{Retire: &lease.Retire{Node: "b"}})
	if err != nil || !out.Accepted || !leaves() {
		t.Fatalf("retirement: %+v, %v", out, err)
	}
	if err := d.node.removeMember(t.Context(), memberChange{node: "b"}); err == nil || !strings.Contains(err.Error(), "another removal") {
		t.Errorf("a second removal: %v", err)
	}
	d.node.wire.Members(list) // has it look again
	if !leaves() {
		t.Error("the retirement is taken back while the removal goes on")
	}
	d.node.removing.Store(false)
	d.await("the retirement is taken back", func() bool { return !leaves() })
}

// TestMembersStayOnThisHostWithoutTLS: what a configuration may not name cannot be added either.
func TestMembersStayOnThisHostWithoutTLS(t *testing.T) {
	cfg := Config{InsecureLoopback: true}
	for _, m := range []member{{ID: "c", Peer: "10.0.0.4:7400"}, {ID: "c", Peer: "127.0.0.4:7400", Gossip: "db1:7401"}} {
		o := (&Node{self: "a", cfg: cfg}).Operators()
		add := &duoflowv1.NewMember{Name: string(m.ID), Peer: m.Peer, Gossip: m.Gossip}
		_, err := o.ChangeMember(t.Context(), &duoflowv1.ChangeMemberRequest{Change: &duoflowv1.ChangeMemberRequest_Add{Add: add}})
		if err == nil || !strings.Contains(err.Error(), "is not a loopback address") {
			t.Errorf("%+v: %v", m, err)
		}
		if problem := (&Config{}).outside(m); problem != nil {
			t.Errorf("%+v, with TLS: %v", m, problem)
		}
	}
	if problem := cfg.outside(member{ID: "c", Peer: "127.0.0.4:7400", Gossip: "localhost:7401"}); problem != nil {
		t.Error(problem)
	}
}
