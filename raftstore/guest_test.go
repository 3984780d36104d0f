package raftstore

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/roster"
)

// TestNobodyIsKnown has t away while c takes b's place, and a lose its disk after that. Whom t and a know, and who has the log, are
// strangers to each other; and c and t have all that was agreed on.
func TestNobodyIsKnown(t *testing.T) {
	ca := newIssuer(t)
	for name, secure := range map[string]func(name string) *tls.Config{
		"TLS": ca.node, "no TLS": func(string) *tls.Config { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, nil)
			for _, m := range c.members {
				m.cfg.TLS = secure(m.peer().Name)
			}
			fresh := c.strandedWith("c", secure("c"))
			c.propose(fresh, "y")
			c.agree("x", "y")
			c.knows("a", "c", "t")
			for _, m := range c.running() {
				if got := m.store.Status(); len(got.PeerStates) != 3 {
					t.Errorf("node %s has the peers %+v", m.peer().Name, got.PeerStates)
				}
			}
		})
	}
}

// strandedWith has a node join and take b's place while t is away, and a lose its disk. It returns the new one.
func (c *cluster) strandedWith(name string, secure *tls.Config) *member {
	c.t.Helper()
	c.startAll()
	c.propose(c.leader(), "x")
	c.agree("x")
	away, gone, wiped := c.named("t"), c.named("b"), c.named("a")
	c.halt(away)
	fresh := c.newcomer(name)
	fresh.cfg.TLS = secure
	c.start(fresh)
	c.add(fresh)
	c.votes(fresh)
	c.remove(gone)
	c.until("farewell", func() bool { return gone.watch.farewell() != "" })
	c.halt(gone)
	c.halt(wiped)
	if err := os.RemoveAll(wiped.cfg.Dir); err != nil {
		c.t.Fatal(err)
	}
	c.start(wiped)
	c.start(away)
	return fresh
}

// TestWhoIsNoGuest: who calls needs the certificate of a node, in the name that its log has for it, and a log that goes on from what is
// known here.
func TestWhoIsNoGuest(t *testing.T) {
	ca := newIssuer(t)
	c := newCluster(t, nil)
	for _, m := range c.members {
		m.cfg.TLS = ca.node(m.peer().Name)
	}
	c.startAll()
	c.propose(c.leader(), "x")
	at := c.members[0]
	peers := at.cfg.Peers
	d := Peer{ID: id("d"), Name: "d", Addr: "127.0.0.1:1"}
	later := roster.New(append(slices.Clone(peers), d))
	another := roster.New([]Peer{d, peers[0], peers[1]})
	without := roster.New(peers)
	for _, test := range []struct {
		name   string
		secure *tls.Config
		list   *Roster
		want   string // "" = it is one
	}{
		{"no word", ca.node("d"), nil, "tells of no members"},
		{"not a member itself", ca.node("d"), &without, "none of the members"},
		{"another cluster", ca.node("d"), &another, "was not removed"},
		{"another node", ca.node("e"), &later, "not node \"d\""},
		{"no unit", ca.config("d"), &later, "OU"},
		{"an operator", ca.operator("d"), &later, "OU"},
		{"a node that is a client only", ca.sign(pkix.Name{CommonName: "d", OrganizationalUnit: []string{nodeUnit}}, nil, x509.ExtKeyUsageClientAuth), &later, "OU"},
		{"a node and an operator", ca.sign(pkix.Name{CommonName: "d", OrganizationalUnit: []string{nodeUnit, "admin"}}, nil, x509.ExtKeyUsageServerAuth), &later, "OU"},
		{"a guest", ca.node("d"), &later, ""},
	} {
		err := at.call(t, test.secure, d.ID, test.list)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		_, heard := at.store.cfg.members().Member(d.ID)
		if heard != (err == nil) {
			t.Errorf("%s: heard %t", test.name, heard)
		}
	}
}

// operator makes a configuration with a certificate as an operator has it.
func (i *issuer) operator(cn string) *tls.Config {
	return i.sign(pkix.Name{CommonName: cn, OrganizationalUnit: []string{"admin"}}, nil, x509.ExtKeyUsageClientAuth)
}

// call has the server judge a first envelope.
func (m *member) call(t *testing.T, secure *tls.Config, from uint64, list *Roster) error {
	t.Helper()
	cert, err := x509.ParseCertificate(secure.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if list != nil {
		ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(rosterHeader, hint(*list)))
	}
	s := &server{store: m.store}
	return s.admit(ctx, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}, &duoflowv1.PeerEnvelope{
		Cluster: "test", From: from, To: m.cfg.Self,
	})
}

// TestOnlyNodesShakeHands: whoever is no peer and no node is sent away before it can say anything.
func TestOnlyNodesShakeHands(t *testing.T) {
	ca := newIssuer(t)
	c := newCluster(t, func(cfg *Config) { cfg.TLS = ca.node("a") })
	cfg := c.members[0].cfg
	cfg.fill()
	for name, test := range map[string]struct {
		secure *tls.Config
		let    bool
	}{
		"node": {ca.node("d"), true}, "operator": {ca.operator("d"), false}, "no unit": {ca.config("d"), false},
		"peer without unit": {ca.config("b"), true},
	} {
		cert, err := x509.ParseCertificate(test.secure.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := cfg.verifyMember(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}); (err == nil) != test.let {
			t.Errorf("%s: %v", name, err)
		}
	}
	taken := errors.New("it was taken back")
	base := ca.node("a")
	base.VerifyConnection = func(tls.ConnectionState) error { return taken }
	cert, err := x509.ParseCertificate(ca.node("d").Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.demanding(base).VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}); !errors.Is(err, taken) {
		t.Errorf("a certificate that was taken back: %v", err)
	}
}

// TestWhoIsConfiguredIntroducesNobody: what a configuration says of the members is no proof that they ever were.
func TestWhoIsConfiguredIntroducesNobody(t *testing.T) {
	self := Peer{ID: 1, Name: "a", Addr: "h:1"}
	list := roster.New([]Peer{self, {ID: 2, Name: "b", Addr: "h:2"}})
	for _, test := range []struct {
		name string
		own  standing
		self uint64
		want bool
	}{
		{"configured", standing{members: list}, 1, false},
		{"of the log", standing{members: list, logged: true}, 1, true},
		{"not in it", standing{members: list, logged: true}, 9, false},
		{"nobody", standing{logged: true}, 1, false},
	} {
		header, _ := metadata.FromOutgoingContext(introduced(t.Context(), test.own, test.self))
		if got := len(header.Get(rosterHeader)) == 1; got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// TestHintFits: the longest roster there may be still fits in a header.
func TestHintFits(t *testing.T) {
	var members []Peer
	for i := range uint64(roster.MaxMembers) {
		name := strings.Repeat(string(rune('a'+i)), 64)
		members = append(members, Peer{ID: 1<<63 + i, Name: name, Addr: strings.Repeat(name, 4)[:255] + ":65535", Learner: false})
	}
	list := roster.New(members)
	for i := range uint64(roster.MaxRemoved) {
		list.Removed = append(list.Removed, roster.Gone{ID: 1<<62 + i, Name: strings.Repeat("r", 60) + string(rune('a'+i%26)) + string(rune('a'+i/26))})
	}
	text := hint(list)
	back, err := hinted(text)
	if err != nil || len(text) > maxHintBytes || len(back.Members) != roster.MaxMembers || len(back.Removed) == 0 {
		t.Errorf("%d bytes: %d members, %d removed, %v", len(text), len(back.Members), len(back.Removed), err)
	}
	list.Removed = list.Removed[:40]
	for i := range list.Members {
		list.Members[i].Name, list.Members[i].Addr = list.Members[i].Name[:1], "h:1"
	}
	for i := range list.Removed {
		list.Removed[i].Name = list.Removed[i].Name[60:]
	}
	if back, err := hinted(hint(list)); err != nil || len(back.Removed) != hintedGone || back.Removed[hintedGone-1] != list.Removed[39] {
		t.Errorf("%+v, %v", back.Removed, err)
	}
}

// TestInDoubtHearsOfARemoval is in doubt and waits for the word of one that is gone. That this one was removed it hears from those that it
// has been connected to since before.
func TestInDoubtHearsOfARemoval(t *testing.T) {
	c := newCluster(t, nil)
	c.startAll()
	c.propose(c.leader(), "x")
	fresh := c.newcomer("c")
	c.start(fresh)
	c.add(fresh)
	c.votes(fresh)
	wiped, gone := c.named("a"), c.named("b")
	c.agree("x")
	c.halt(wiped)
	c.halt(gone)
	if err := os.RemoveAll(wiped.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	c.start(wiped)
	c.until("connections", func() bool {
		for _, p := range wiped.store.Status().PeerStates {
			if p.Name != "b" && !p.Connected {
				return false
			}
		}
		return true
	})
	// Of four voters two are left, who could agree on nothing: b is back, but out of a's reach.
	wiped.store.links()[gone.cfg.Self].stop()
	c.start(gone)
	c.remove(gone)
	c.until("farewell", func() bool { return gone.watch.farewell() != "" })
	c.halt(gone)
	c.propose(fresh, "y")
	c.until("end of doubt", func() bool { return wiped.store.Status().Doubt == "" })
	c.agree("x", "y")
}
