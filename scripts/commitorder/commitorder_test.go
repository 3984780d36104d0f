package commitorder

import "testing"

// TestExamineCanFail shows that every kind of violation is seen: an oracle that cannot say no proves nothing.
func TestExamineCanFail(t *testing.T) {
	good := []Row{{"a", 1, 7, 1}, {"a", 1, 7, 2}, {"a", 1, -1, 0}, {"b", 2, 9, 1}, {"b", 2, 9, 2}, {"a", 4, 11, 1}}
	tests := []struct {
		name  string
		added Row
		want  func(Verdict) bool
	}{
		{"late row of an old epoch", Row{"b", 2, 9, 3}, func(v Verdict) bool { return v.Stale == 1 }},
		{"late row with stolen credentials", Row{"a", 1, -1, 1}, func(v Verdict) bool { return v.Stale == 1 }},
		{"two nodes under one epoch", Row{"b", 4, 9, 3}, func(v Verdict) bool { return v.Shared == 1 }},
		{"a row twice", Row{"a", 4, 11, 1}, func(v Verdict) bool { return v.Twice == 1 }},
	}
	if v := Examine(good); !v.Sound() || v.Epochs != 3 || v.Rows != 6 || v.StolenRows != 1 {
		t.Fatalf("sound order judged %+v", v)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := Examine(append(append([]Row{}, good...), test.added))
			if v.Sound() || !test.want(v) || v.Example == "" {
				t.Errorf("not seen: %+v", v)
			}
		})
	}
}

func TestParse(t *testing.T) {
	text := `table public.probe: INSERT: id[bigint]:12 node[text]:'a' epoch[bigint]:3 pid[integer]:-1 seq[bigint]:40 at[timestamp with time zone]:'2026-11-25 03:42:50+00'`
	if r, ok := parse(text); !ok || r != (Row{"a", 3, -1, 40}) {
		t.Errorf("parsed %+v, %v", r, ok)
	}
	if _, ok := parse(`table public.probe: INSERT: id[bigint]:12 node[text]:'a'`); ok {
		t.Error("half a row was taken for one")
	}
}
