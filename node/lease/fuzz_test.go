package lease_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/duoflow/duoflow/node/lease"
)

// FuzzDecodeCommand: no entry makes the decoder panic, and what it accepts means the same when it is written again.
func FuzzDecodeCommand(f *testing.F) {
	for _, c := range commands() {
		f.Add(c.Encode())
	}
	f.Add([]byte{})
	f.Add([]byte{2, '{', '}'})
	f.Fuzz(func(t *testing.T, entry []byte) {
		c, err := lease.DecodeCommand(entry)
		if err != nil {
			return
		}
		again, err := lease.DecodeCommand(c.Encode())
		if err != nil {
			t.Fatalf("accepted %q, refused what it wrote of it: %v", entry, err)
		}
		if !bytes.Equal(again.Encode(), c.Encode()) {
			t.Fatalf("%q became %q, then %q", entry, c.Encode(), again.Encode())
		}
		cluster(t).Apply(c)
	})
}

// FuzzDecodeSnapshot: no snapshot makes the decoder panic, and one that it accepts can be written, read and gone on from.
func FuzzDecodeSnapshot(f *testing.F) {
	f.Add((&lease.State{}).Snapshot())
	f.Add(cluster(f).Snapshot())
	f.Add(cluster(f, grant(0, 1, "a", tokenA), ask(1, lease.Move{To: "b"}), release(1, tokenA)).Snapshot())
	f.Add(cluster(f, observe(9, "z", tokenB), report(9, lease.Timing{Name: "fence", Took: 1})).Snapshot())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := lease.DecodeSnapshot(data)
		if err != nil {
			return
		}
		again, err := lease.DecodeSnapshot(s.Snapshot())
		if err != nil {
			t.Fatalf("accepted %q, refused what it wrote of it: %v", data, err)
		}
		if !bytes.Equal(again.Snapshot(), s.Snapshot()) {
			t.Fatalf("%q became %q, then %q", data, s.Snapshot(), again.Snapshot())
		}
		goOn(t, &s)
	})
}

// goOn releases, grants and moves every job of a state.
func goOn(t *testing.T, s *lease.State) {
	t.Helper()
	for _, j := range s.Jobs {
		for _, c := range []lease.Command{
			{Release: &lease.Release{Job: j.Name, Epoch: j.Epoch, Token: j.Token}},
			{Ask: &lease.Ask{Job: j.Name, Epoch: j.Epoch}},
			{Grant: &lease.Grant{Job: j.Name, Expect: j.Epoch, Next: j.Epoch + 1, Node: "a", Token: tokenA}},
			{Report: &lease.Report{Job: j.Name, Epoch: j.Epoch + 1, Phases: []lease.Timing{{Name: "fence"}}}},
		} {
			s.Apply(c)
		}
		if after, _ := s.Job(j.Name); after.Epoch < j.Epoch {
			t.Fatalf("job %s went from epoch %d to %d", j.Name, j.Epoch, after.Epoch)
		}
	}
}

// tape is a source of numbers that are not random at all: the fuzzer wrote them, a byte for each. They are spread over
// all bits, as IntN looks at low ones or at high ones, and would ask for ever for another than 0.
type tape struct{ left []byte }

func (p *tape) Uint64() uint64 {
	n := uint64(1)
	if len(p.left) > 0 {
		n, p.left = uint64(p.left[0])+1, p.left[1:]
	}
	n *= 0x9e3779b97f4a7c15
	return n ^ n>>29
}

// FuzzApply carries out arbitrary commands, as text, one a line, and as choices of the generator of the oracle test,
// on two nodes. Both must come to the same, epochs must grow, and the state must survive a snapshot. Apply itself
// panics when an invariant breaks; that is a finding.
func FuzzApply(f *testing.F) {
	var all [][]byte
	for _, c := range commands() {
		all = append(all, c.Encode()[1:])
	}
	f.Add(bytes.Join(all, []byte("\n")), []byte{})
	f.Add([]byte{}, []byte("any text is a choice of commands, and the longer it is the more of them there are"))
	for _, story := range [][]lease.Command{
		{grant(0, 1, "a", tokenA), report(1, lease.Timing{Name: "fence"}), release(1, tokenA), grant(1, 2, "b", tokenB)},
		{grant(0, 1, "a", tokenA), ask(1, lease.Move{To: "b"}), observe(7, "b", tokenB), release(7, tokenB)},
		{observe(3, "z", tokenB), configure(lease.Node{ID: "z", Witness: true}), grant(3, 4, "a", tokenA)},
		{grant(0, 1<<64-1, "a", tokenA), grant(1<<64-1, 0, "b", tokenB), release(1<<64-1, tokenA)},
	} {
		var lines [][]byte
		for _, c := range story {
			lines = append(lines, c.Encode()[1:])
		}
		f.Add(bytes.Join(lines, []byte("\n")), []byte{})
	}
	f.Fuzz(func(t *testing.T, script, choices []byte) {
		one, two := cluster(t), cluster(t)
		for line := range bytes.SplitSeq(script, []byte("\n")) {
			if c, err := lease.DecodeCommand(append([]byte{1}, line...)); err == nil {
				applyToBoth(t, one, two, c)
			}
		}
		for p := (&tape{choices}); len(p.left) > 0; {
			applyToBoth(t, one, two, random(rand.New(p), one, []lease.JobName{scheduler, etl, "ghost"}))
		}
		two = reload(t, two)
		if !bytes.Equal(one.Snapshot(), two.Snapshot()) {
			t.Fatalf("two nodes disagree:\n%s\n%s", one.Snapshot(), two.Snapshot())
		}
	})
}

func applyToBoth(t *testing.T, one, two *lease.State, c lease.Command) {
	t.Helper()
	before := string(one.Snapshot())
	epochs := map[lease.JobName]lease.Epoch{}
	for _, j := range one.Jobs {
		epochs[j.Name] = j.Epoch
	}
	out := one.Apply(c)
	if other := two.Apply(c); other != out {
		t.Fatalf("%s: one node says %+v, the other %+v", c.Encode(), out, other)
	}
	if !out.Accepted && string(one.Snapshot()) != before {
		t.Fatalf("%s was refused and changed the state", c.Encode())
	}
	for job, epoch := range epochs {
		if j, ok := one.Job(job); !ok || j.Epoch < epoch {
			t.Fatalf("%s took job %s from epoch %d to %d", c.Encode(), job, epoch, j.Epoch)
		}
	}
}
