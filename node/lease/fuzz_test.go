package lease_test

import (
	"bytes"
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

// FuzzApply carries out arbitrary commands, one a line, on two nodes. Both must come to the same, epochs must grow,
// and the state must survive a snapshot. Apply itself panics when an invariant breaks; that is a finding.
func FuzzApply(f *testing.F) {
	var all [][]byte
	for _, c := range commands() {
		all = append(all, c.Encode()[1:])
	}
	f.Add(bytes.Join(all, []byte("\n")))
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
		f.Add(bytes.Join(lines, []byte("\n")))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		one, two := cluster(t), cluster(t)
		for line := range bytes.SplitSeq(script, []byte("\n")) {
			c, err := lease.DecodeCommand(append([]byte{1}, line...))
			if err != nil {
				continue
			}
			before := string(one.Snapshot())
			epochs := map[lease.JobName]lease.Epoch{}
			for _, j := range one.Jobs {
				epochs[j.Name] = j.Epoch
			}
			out := one.Apply(c)
			if other := two.Apply(c); other != out {
				t.Fatalf("%s: one node says %+v, the other %+v", line, out, other)
			}
			if !out.Accepted && string(one.Snapshot()) != before {
				t.Fatalf("%s was refused and changed the state", line)
			}
			for job, epoch := range epochs {
				if j, ok := one.Job(job); !ok || j.Epoch < epoch {
					t.Fatalf("%s took job %s from epoch %d to %d", line, job, epoch, j.Epoch)
				}
			}
		}
		two = reload(t, two)
		if !bytes.Equal(one.Snapshot(), two.Snapshot()) {
			t.Fatalf("two nodes disagree:\n%s\n%s", one.Snapshot(), two.Snapshot())
		}
	})
}
