package roster

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func named(id uint64, name string) Member {
	return Member{ID: id, Name: name, Addr: name + ":7400"}
}

func three() Roster { return New([]Member{named(2, "b"), named(1, "a"), named(3, "t")}) }

func must(t *testing.T, r Roster, changes ...Change) Roster {
	t.Helper()
	for _, c := range changes {
		next, err := r.After(c)
		if err != nil {
			t.Fatal(err)
		}
		r = next
	}
	return r
}

func add(m Member) Change { return Change{Add: &m} }

func TestRefused(t *testing.T) {
	joining := must(t, three(), add(named(4, "u")))
	alone := must(t, three(), Change{Remove: 2}, Change{Remove: 3})
	full := three()
	for id := uint64(4); id <= MaxMembers; id++ {
		full = must(t, full, add(named(id, string(rune('d'+id)))), Change{Promote: id})
	}
	for _, test := range []struct {
		name   string
		from   Roster
		change Change
		want   string
	}{
		{"nothing", three(), Change{}, "not exactly one"},
		{"two at once", three(), Change{Promote: 1, Remove: 2}, "not exactly one"},
		{"known id", three(), add(named(2, "x")), "b is a member already"},
		{"known name", three(), add(named(9, "b")), "b is a member already"},
		{"known address", three(), add(Member{ID: 9, Name: "x", Addr: "b:7400"}), "b has the address"},
		{"no address", three(), add(Member{ID: 9, Name: "x", Addr: "b"}), "not host:port"},
		{"nobody", three(), add(named(0, "x")), "reserved"},
		{"long note", three(), add(Member{ID: 9, Name: "x", Addr: "x:1", Note: strings.Repeat("n", MaxNote+1)}), "note is longer"},
		{"what grows when it is written", three(), add(Member{ID: 9, Name: "x", Addr: "x:1", Note: strings.Repeat("\xff", MaxNote)}), "note is longer"},
		{"a second joiner", joining, add(named(5, "v")), "u is joining"},
		{"too many", full, add(named(99, "z")), "at most 9"},
		{"a voter", three(), Change{Promote: 2}, "not joining"},
		{"a stranger", three(), Change{Promote: 9}, "not joining"},
		{"a stranger's end", three(), Change{Remove: 9}, "no member"},
		{"the last voter", alone, Change{Remove: 1}, "last voter"},
		{"a removed one", must(t, three(), Change{Remove: 3}), add(named(3, "t")), "never taken back"},
		{"a removed name", must(t, three(), Change{Remove: 3}), add(named(9, "t")), "never taken back"},
	} {
		_, err := test.from.After(test.change)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", test.name, err, test.want)
		}
	}
}

// TestWalk changes members at random, beside a naive model, and wants raft's own view of each step to agree.
func TestWalk(t *testing.T) {
	for seed := range uint64(300) {
		dice := rand.New(rand.NewPCG(seed, 1))
		r := three()
		state := map[uint64]string{1: "voter", 2: "voter", 3: "voter"}
		for range 60 {
			id := 1 + dice.Uint64N(12)
			c := Change{Promote: id}
			switch dice.IntN(3) {
			case 0:
				c = add(named(id, string(rune('a'+id))))
			case 1:
				c = Change{Remove: id}
			}
			next, err := r.After(c)
			if allowed := model(state, c, id); allowed != (err == nil) {
				t.Fatalf("seed %d: %+v of %v: allowed %v, error %v", seed, c, state, allowed, err)
			}
			if err != nil {
				continue
			}
			r = next
			back, err := Decode(r.Encode())
			if err != nil || !bytes.Equal(back.Encode(), r.Encode()) {
				t.Fatalf("seed %d: %+v does not come back: %v", seed, r, err)
			}
		}
	}
}

// model says whether a change is allowed, and makes it.
func model(state map[uint64]string, c Change, id uint64) bool {
	count := map[string]int{}
	for _, what := range state {
		count[what]++
	}
	switch {
	case c.Add != nil:
		if state[id] != "" || count["learner"] > 0 || count["voter"] == MaxMembers {
			return false
		}
		state[id] = "learner"
	case c.Promote != 0:
		if state[id] != "learner" {
			return false
		}
		state[id] = "voter"
	default:
		if state[id] != "learner" && (state[id] != "voter" || count["voter"] == 1) {
			return false
		}
		state[id] = "removed"
	}
	return true
}

func TestPreferredVotes(t *testing.T) {
	u := named(4, "u")
	u.Preferred = true
	r := must(t, three(), add(u))
	if got := r.Preferred(); got != 0 {
		t.Errorf("a learner is preferred: %d", got)
	}
	if got := must(t, r, Change{Promote: 4}).Preferred(); got != 4 {
		t.Errorf("preferred is %d, want 4", got)
	}
}

func TestWrap(t *testing.T) {
	r := must(t, three(), add(named(4, "u")))
	for _, data := range []string{"", "\x01{}", "anything"} {
		got, rest, ok, err := Unwrap(r.Wrap([]byte(data)))
		if err != nil || !ok || string(rest) != data || !bytes.Equal(got.Encode(), r.Encode()) {
			t.Errorf("%q: %+v %q %v %v", data, got, rest, ok, err)
		}
		_, rest, ok, err = Unwrap([]byte(data))
		if err != nil || ok || string(rest) != data {
			t.Errorf("without members, %q: %q %v %v", data, rest, ok, err)
		}
	}
	whole := r.Wrap(nil)
	for cut := len(mark); cut < len(whole); cut++ {
		if _, _, _, err := Unwrap(whole[:cut]); err == nil {
			t.Errorf("cut to %d bytes it is taken", cut)
		}
	}
}

// FuzzDecode wants that what is read is what would be written.
func FuzzDecode(f *testing.F) {
	f.Add(three().Encode())
	f.Add(Roster{}.Encode())
	f.Add([]byte("\x01{\"members\": []}"))
	f.Add([]byte("\x01{\"members\":[{\"id\":1,\"name\":\"a\",\"addr\":\"a:1\",\"learner\":true}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Encode(), data) {
			t.Errorf("%q is read as %+v", data, r)
		}
		for _, c := range []Change{add(named(77, "new")), {Remove: 1}, {Promote: 2}} {
			if next, err := r.After(c); err == nil {
				if _, err := Decode(next.Encode()); err != nil {
					t.Errorf("%+v of %+v leads to what is not read: %v", c, r, err)
				}
			}
		}
	})
}

// FuzzUnwrap wants that a snapshot is put together and taken apart without loss.
func FuzzUnwrap(f *testing.F) {
	f.Add(three().Wrap([]byte("data")))
	f.Add([]byte("\x01{}"))
	f.Add([]byte(mark))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, rest, ok, err := Unwrap(data)
		switch {
		case err != nil:
		case !ok && !bytes.Equal(rest, data):
			t.Error("something is missing")
		case ok && !bytes.Equal(r.Wrap(rest), data):
			t.Errorf("%q is put together differently", data)
		}
	})
}

func TestGoesOnFrom(t *testing.T) {
	joined := must(t, three(), add(named(4, "u")), Change{Promote: 4})
	replaced := must(t, joined, Change{Remove: 2})
	forgot := replaced
	forgot.Removed = nil
	other := three()
	other.Members[1].Name = "x"
	for _, test := range []struct {
		name        string
		now, before Roster
		want        string
	}{
		{"the same", three(), three(), ""},
		{"one joined", joined, three(), ""},
		{"one was replaced", replaced, three(), ""},
		{"and that is known", replaced, replaced, ""},
		{"its removal is known and not told", forgot, replaced, ""},
		{"nothing was known", three(), Roster{}, ""},
		{"one is missing", forgot, joined, "node b is none"},
		{"an earlier one", three(), joined, "node u is none"},
		{"one came back", joined, replaced, "node b was removed"},
		{"another name for one", other, three(), "node b is none"},
	} {
		err := test.now.GoesOnFrom(test.before)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
