package history

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// limit is for one window of a test; nothing comes near it.
const limit = time.Minute

// at makes operations of one client after the other from lines like "1-2 read 5 a granted -", "3-4 ask 5 switchover done". Times
// are seconds; a dash as the last word of a read is no pending wish, a question mark is a read that does not tell.
func at(t *testing.T, lines ...string) []Operation {
	t.Helper()
	var all []Operation
	for i, line := range lines {
		f := strings.Fields(line)
		op := Operation{Client: i, Job: "scheduler", Node: "a", Kind: Kind(f[1]), Outcome: Done}
		if _, err := fmt.Sscanf(f[0], "%d-%d", &op.Call, &op.Return); err != nil {
			t.Fatal(err)
		}
		switch op.Kind {
		case Read:
			op.Lease = &Lease{Holder: strings.Trim(f[3], "-"), Phase: strings.Trim(f[4], "-")}
			if _, err := fmt.Sscan(f[2], &op.Lease.Epoch); err != nil {
				t.Fatal(err)
			}
			if move := strings.ReplaceAll(strings.Trim(f[5], "-"), "_", " "); move != "?" {
				op.Lease.Move = &move
			}
		case Ask:
			op.Move, op.Outcome = strings.ReplaceAll(f[3], "_", " "), Outcome(f[4])
			if _, err := fmt.Sscan(f[2], &op.Epoch); err != nil {
				t.Fatal(err)
			}
		case Foreign:
			op.Outcome = Outcome(f[2])
		}
		if err := op.validate(); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, op)
	}
	return all
}

// TestJudge: what may be, and what must be found.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sound bool
		lines []string
	}{
		{"nothing ever happened", true, []string{"1-2 read 0 - - -", "3-4 read 0 - - -"}},
		{"a life", true, []string{"1-2 read 0 - - -", "3-4 read 1 a granted -", "5-6 read 1 a released -", "7-8 read 2 b granted -"}},
		{"epochs are left out", true, []string{"1-2 read 1 a granted -", "3-4 read 9 b released -"}},
		{"an overlapping read is older", true, []string{"1-9 read 2 b granted -", "2-8 read 1 a granted -"}},
		{"a stale read", false, []string{"1-2 read 2 b granted -", "3-4 read 1 a granted -"}},
		{"a stale read of the phase", false, []string{"1-2 read 1 a released -", "3-4 read 1 a granted -"}},
		{"the epoch goes back while others read on", false, []string{"1-2 read 2 b granted -", "3-6 read 2 b granted -", "4-5 read 1 a granted -"}},
		{"nobody was ever granted it, after somebody was", false, []string{"1-2 read 1 a granted -", "3-4 read 0 - - -"}},
		{"two holders of an epoch", false, []string{"1-2 read 1 a granted -", "3-4 read 1 b granted -"}},
		{"two holders of an epoch at once", false, []string{"1-4 read 1 a granted -", "1-4 read 1 b granted -"}},
		{"the witness holds it", false, []string{"1-2 read 1 t granted -"}},
		{"an epoch without a holder", false, []string{"1-2 read 1 - granted -"}},

		{"a wish is seen", true, []string{"1-2 read 1 a granted -", "3-4 ask 1 switchover done", "5-6 read 1 a granted switchover", "7-8 read 2 b granted -"}},
		{"a wish outlives the release", true, []string{"1-2 ask 1 switchover done", "3-4 read 1 a released switchover"}},
		{"a wish ends with its epoch", true, []string{"1-2 ask 1 switchover done", "3-4 read 2 b granted -"}},
		{"an accepted wish is lost", false, []string{"1-2 read 1 a granted -", "3-4 ask 1 switchover done", "5-6 read 1 a granted -"}},
		{"a read that does not tell is no proof", true, []string{"1-2 ask 1 switchover done", "3-4 read 1 a granted ?", "5-6 read 1 a granted switchover"}},
		{"nor does it hide a loss", false, []string{"1-2 ask 1 switchover done", "3-4 read 1 a granted ?", "5-6 read 1 a granted -"}},
		{"a wish that nobody made", false, []string{"1-2 read 1 a granted -", "3-4 read 1 a granted switchover"}},
		{"a wish that goes on into the next epoch", false, []string{"1-2 ask 1 switchover done", "3-4 read 2 b granted switchover"}},
		{"another one than was made", false, []string{"1-2 read 1 a granted -", "3-4 ask 1 failover_b done", "5-6 read 1 a granted failover_a"}},
		{"a wish for an epoch that is over is accepted", false, []string{"1-2 read 2 b granted -", "3-4 ask 1 switchover done"}},
		{"a wish for the last moment of an epoch", true, []string{"1-2 read 1 a granted -", "3-6 ask 1 switchover done", "4-5 read 2 b granted -"}},
		{"a refused wish comes true", false, []string{"1-2 read 1 a granted -", "3-4 ask 1 switchover refused", "5-6 read 1 a granted switchover"}},
		{"the later of two wishes counts", true, []string{"1-2 ask 1 switchover done", "3-4 ask 1 failover done", "5-6 read 1 a granted failover"}},
		{"the earlier one does not", false, []string{"1-2 ask 1 switchover done", "3-4 ask 1 failover done", "5-6 read 1 a granted switchover"}},

		{"unknown, and never came true", true, []string{"1-2 ask 1 switchover unknown", "3-4 read 1 a granted -", "5-6 read 2 b granted -", "7-8 read 2 b granted -"}},
		{"unknown, and came true late", true, []string{"1-2 ask 1 switchover unknown", "3-4 read 1 a granted -", "5-6 read 1 a granted switchover"}},
		{"unknown, and came true too late", false, []string{"1-2 ask 1 switchover unknown", "3-4 read 1 a granted -", "5-6 read 2 b granted switchover"}},
		{"unknown, and came true for a while", false, []string{"1-2 ask 1 switchover unknown", "3-4 read 1 a granted switchover", "5-6 read 1 a granted -"}},
		{"unknown, and over when it was made", true, []string{"1-2 read 2 b granted -", "3-4 ask 1 switchover unknown", "5-6 read 2 b granted -"}},

		{"somebody else's wish", true, []string{"1-2 read 1 a granted -", "3-4 foreign done", "5-6 read 1 a granted failover_b"}},
		{"somebody else's wish, late", true, []string{"1-2 foreign unknown", "3-4 read 1 a granted -", "5-6 read 1 a granted failover_b"}},
		{"somebody else's wish for an epoch that nobody has read", true, []string{"1-2 read 1 a granted -", "3-4 foreign done", "5-6 read 2 b granted switchover", "7-8 read 3 a granted -"}},
		{"the same, and a read that does not tell", true, []string{"1-2 read 1 a granted -", "3-4 foreign done", "5-6 read 2 b granted ?", "7-8 read 2 b granted switchover"}},
		{"a read is later than that wish", false, []string{"1-2 read 1 a granted -", "3-4 foreign done", "5-6 read 1 a granted ?", "7-8 read 2 b granted switchover"}},
		{"somebody else's wish was over", false, []string{"1-2 foreign done", "3-4 read 1 a granted -", "5-6 read 1 a granted failover_b"}},
	} {
		v := Judge(at(t, tt.lines...), limit)
		if len(v.Undecided) > 0 || (len(v.Wrong) == 0) != tt.sound {
			t.Errorf("%s: sound %v, wrong %q, undecided %q", tt.name, tt.sound, v.Wrong, v.Undecided)
		}
	}
}

func TestVerdictCounts(t *testing.T) {
	v := Judge(at(t, "1-2 read 1 a granted -", "3-4 ask 1 switchover done", "5-6 ask 1 failover refused", "7-8 ask 1 failover unknown",
		"9-10 foreign done", "11-12 read 2 b granted -"), limit)
	if got, want := fmt.Sprint(v), "{6 2 1 1 1 2 1 [] []}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestExplain: the operation is named from which on nothing fits.
func TestExplain(t *testing.T) {
	v := Judge(at(t, "1-2 read 1 a granted -", "3-4 read 2 b granted -", "5-6 read 1 a granted -", "7-8 read 3 a granted -"), limit)
	if len(v.Wrong) != 1 || !strings.Contains(v.Wrong[0], `from {"client":2`) {
		t.Errorf("wrong: %q", v.Wrong)
	}
}

// truth makes a history as a sound cluster would: each operation takes effect at one moment of its span, which other spans overlap.
func truth(dice *rand.Rand, n int) []Operation {
	type truth struct {
		epoch               uint64
		holder, phase, move string
	}
	now, s := int64(0), truth{}
	free := make([]int64, 4)  // when each client has its answer
	read := make([]uint64, 4) // the epoch that it read last: a wish is for no other
	var all []Operation
	for len(all) < n {
		now += 10 + dice.Int64N(20)
		switch dice.IntN(12) {
		case 0:
			s = truth{epoch: s.epoch + 1 + dice.Uint64N(2), holder: []string{"a", "b"}[dice.IntN(2)], phase: granted}
		case 1:
			if s.epoch > 0 {
				s.phase = released
			}
		}
		op := Operation{Client: dice.IntN(4), Job: "scheduler", Kind: Read, Outcome: Done}
		if free[op.Client] >= now {
			continue
		}
		op.Call, op.Return = max(free[op.Client]+1, now-dice.Int64N(60)), now+dice.Int64N(60)
		free[op.Client] = op.Return
		if read[op.Client] > 0 && dice.IntN(4) == 0 {
			op.Kind, op.Epoch, op.Move = Ask, read[op.Client], MoveTo("switchover", []string{"", "a", "b"}[dice.IntN(3)])
			op.Outcome = []Outcome{Done, Refused, Unknown}[dice.IntN(3)]
			switch {
			case op.Epoch != s.epoch && op.Outcome == Done:
				op.Outcome = Refused
			case op.Epoch == s.epoch && (op.Outcome == Done || op.Outcome == Unknown && dice.IntN(2) == 0):
				s.move = op.Move
			}
		} else {
			move := s.move
			read[op.Client] = s.epoch
			op.Lease = &Lease{Epoch: s.epoch, Holder: s.holder, Phase: s.phase, Move: &move}
			if dice.IntN(3) == 0 {
				op.Lease.Move = nil
			}
		}
		all = append(all, op)
	}
	return all
}

// TestTruthIsFoundSound: no sound history is complained of, in one window or in many.
func TestTruthIsFoundSound(t *testing.T) {
	for seed := range uint64(40) {
		all := truth(rand.New(rand.NewPCG(seed, 0)), 400)
		if v := Judge(all, limit); len(v.Wrong)+len(v.Undecided) > 0 || v.Windows < 1 {
			t.Fatalf("seed %d: %+v", seed, v)
		}
		for _, w := range windows(all, 20) {
			if v := Judge(w, limit); len(v.Wrong)+len(v.Undecided) > 0 {
				t.Fatalf("seed %d, small windows: %+v", seed, v)
			}
		}
	}
}

// TestLiesAreFound: one read of a sound history is moved to a later time at which it is stale, and that is seen.
func TestLiesAreFound(t *testing.T) {
	found := 0
	for seed := range uint64(40) {
		dice := rand.New(rand.NewPCG(seed, 1))
		all := truth(dice, 300)
		reads := slices.DeleteFunc(slices.Clone(all), func(op Operation) bool { return op.Kind != Read })
		old, last := reads[len(reads)/4], reads[len(reads)-1]
		if old.Lease.Epoch == last.Lease.Epoch {
			continue
		}
		found++
		old.Call = slices.MaxFunc(all, func(a, b Operation) int { return int(a.Return - b.Return) }).Return + 1
		old.Return = old.Call + 1
		if v := Judge(append(all, old), limit); len(v.Wrong) != 1 {
			t.Errorf("seed %d: a read of epoch %d after one of %d: %+v", seed, old.Lease.Epoch, last.Lease.Epoch, v)
		}
	}
	if found < 20 {
		t.Errorf("only %d lies were told", found)
	}
}

// TestWindows: they overlap by one read, leave nothing out, and take open wishes with them.
func TestWindows(t *testing.T) {
	all := at(t, "1-2 read 1 a granted -", "3-4 ask 1 switchover unknown", "5-6 read 1 a granted -", "7-9 read 1 a granted -",
		"8-10 read 1 a granted -", "11-12 read 2 b granted -", "13-14 read 2 b granted -", "15-16 read 2 b granted -")
	var got []string
	for _, w := range windows(all, 3) {
		var calls []string
		for _, op := range w {
			calls = append(calls, fmt.Sprint(op.Call))
		}
		got = append(got, strings.Join(calls, " "))
	}
	if want := []string{"1 3 5", "3 5 7 8 11", "11 13 15"}; !slices.Equal(got, want) {
		t.Errorf("windows %q, want %q", got, want)
	}
	if v := Judge(nil, limit); v.Windows != 0 || len(v.Wrong) != 0 {
		t.Errorf("an empty history: %+v", v)
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	all := at(t, "1-2 read 1 a granted -", "3-4 ask 1 switchover_b unknown", "5-6 foreign done", "7-8 read 1 a granted ?")
	var text strings.Builder
	for _, op := range all {
		text.WriteString(op.String() + "\n")
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text.String() + `{"client":1,"ki`)
	back, err := ReadFile(path)
	if err != nil || fmt.Sprint(back) != fmt.Sprint(all) {
		t.Errorf("read %v, %v; want %v", back, err, all)
	}
	for name, bad := range map[string]string{
		"no JSON":                  "x",
		"a read that saw nothing":  `{"client":0,"kind":"read","job":"j","node":"a","outcome":"done","call":1,"return":2}`,
		"a wish for nothing":       `{"client":0,"kind":"ask","job":"j","node":"a","outcome":"done","call":1,"return":2}`,
		"answered before the call": `{"client":0,"kind":"foreign","job":"j","node":"a","outcome":"done","call":3,"return":2}`,
	} {
		write(bad + "\n")
		if _, err := ReadFile(path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := ReadFile(path + ".missing"); err == nil {
		t.Error("a missing file is an empty history")
	}
}
