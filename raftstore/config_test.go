package raftstore

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestConfigTellsEveryProblem(t *testing.T) {
	_, err := New(Config{
		Listen: "nowhere", Self: 9, PreferredLeader: 8, Tick: time.Microsecond, HeartbeatTicks: 10, ElectionTicks: 20,
		Peers: []Peer{{ID: 1, Name: "a", Addr: "x:1"}, {ID: 1, Name: "a", Addr: "x"}, {Name: ""}},
	}, &list{})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"Cluster is empty or", "Dir is empty", `Listen "nowhere"`, "Tick 1µs", "ElectionTicks 20",
		"id 1 is reserved or used twice", "id 0 is reserved", `name "a" is empty or used twice`,
		`address "x" is not`, "Self 9 is not in Peers", "PreferredLeader 8 is not in Peers",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if _, err := New(Config{}, nil); err == nil {
		t.Error("accepted no state machine")
	}
}

func TestDefaults(t *testing.T) {
	c := newCluster(t, nil)
	s, err := New(c.members[0].cfg, &list{})
	if err != nil {
		t.Fatal(err)
	}
	got := s.cfg
	if got.Tick != 10*time.Millisecond || got.HeartbeatTicks != 3 || got.ElectionTicks != 30 ||
		got.SnapshotEvery != 10_000 || got.KeepEntries != 1_000 {
		t.Errorf("got %+v", got)
	}
	if s.Addr() != "" || s.Status().Leader != 0 {
		t.Error("a store that does not run has an address or a leader")
	}
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w window
		if last, p99 := w.last(); last != 0 || p99 != 0 {
			t.Errorf("empty window: %s %s", last, p99)
		}
		for i := range 1000 {
			w.begin()
			time.Sleep(time.Duration(i))
			w.end()
		}
		if last, p99 := w.last(); last != 999 || p99 != 997 { // the 254th of 744..999
			t.Errorf("got %d %d", last, p99)
		}
		w.begin()
		time.Sleep(5000)
		if last, p99 := w.last(); last != 999 || p99 != 5000 || w.age() != 5000 {
			t.Errorf("with one under way: %d %d, its age %d", last, p99, w.age())
		}
		w.end()
		if last, p99 := w.last(); last != 5000 || p99 != 998 || w.age() != 0 {
			t.Errorf("with that one ended: %d %d, age %d", last, p99, w.age())
		}
	})
}

func TestQueue(t *testing.T) {
	newest, oldest := newQueue(2, false), newQueue(2, true)
	for i := range 3 {
		item := outgoing{payload: []byte{byte(i)}}
		if newest.push(item) != (i < 2) || !oldest.push(item) {
			t.Errorf("push %d", i)
		}
	}
	for name, test := range map[string]struct {
		q    *queue
		want byte
	}{"newest": {newest, 0}, "oldest": {oldest, 1}} {
		items := test.q.takeAll()
		if len(items) != 2 || items[0].payload[0] != test.want {
			t.Errorf("%s: got %v", name, items)
		}
		if len(test.q.takeAll()) != 0 {
			t.Errorf("%s is not empty", name)
		}
	}
}
