package airflowctl_test

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl"
)

func TestReadNumbers(t *testing.T) {
	many, first := strings.Builder{}, []airflowctl.Number{}
	many.WriteString("a job with much to say\n")
	for n := range 20 {
		fmt.Fprintf(&many, "n%d %d\n", n, n)
		if n < 16 {
			first = append(first, airflowctl.Number{Name: fmt.Sprintf("n%d", n), Value: float64(n)})
		}
	}
	for text, want := range map[string][]airflowctl.Number{
		"":                                   nil,
		"3 of 12 chunks":                     nil,
		"chunks 3\n":                         nil, // the first line is for people
		"so far\nchunks_done 3\nleft 9\n":    {{Name: "chunks_done", Value: 3}, {Name: "left", Value: 9}},
		"so far\nchunks_done 3\nleft 9":      {{Name: "chunks_done", Value: 3}}, // cut off
		"\n  rate \t -1.5e3 \r\n":            {{Name: "rate", Value: -1500}},
		"x\ntwice 1\ntwice 2\n":              {{Name: "twice", Value: 1}},
		"x\nUpper 1\n9th 1\na-b 1\nn 1 2\nn": nil,
		"x\na NaN\nb +Inf\nc 1e999\nd ten\n": nil,
		"x\n" + strings.Repeat("n", 33) + " 1\nok 16\n": {{Name: "ok", Value: 16}},
		many.String(): first,
	} {
		if got := airflowctl.ReadNumbers([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q gives %v, want %v", text, got, want)
		}
	}
}

func FuzzReadNumbers(f *testing.F) {
	f.Add([]byte("2019: ingest (3 of 12 chunks)\nchunks_done 3\nchunks_left 9\nrate 1.5e3\n"))
	f.Add([]byte("\n\xff 1\nx 1_0\nx NaN\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		seen := map[string]bool{}
		for _, n := range airflowctl.ReadNumbers(text) {
			if n.Name == "" || len(n.Name) > 32 || strings.Trim(n.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || seen[n.Name] ||
				math.IsNaN(n.Value) || math.IsInf(n.Value, 0) || len(seen) == 16 {
				t.Fatalf("%q gives %+v", text, n)
			}
			seen[n.Name] = true
		}
	})
}

// TestALifeCounts: its numbers are in the status beside its line, and go with its epoch.
func TestALifeCounts(t *testing.T) {
	m := newMetastore(t)
	const program = `for n in 1 2; do printf 'at work\ndone %d\nleft 7\n' $n > "$DUOFLOW_STATUS_FILE.new" && mv "$DUOFLOW_STATUS_FILE.new" "$DUOFLOW_STATUS_FILE"
while [ $n = 1 ] && ! [ -e go ]; do sleep 0.02; done; done; exec sleep 600`
	dir := t.TempDir()
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sh", "-c", program}, Env: os.Environ(), Dir: dir, FenceDSN: m.dsn["a"], Observer: &events{},
	})
	counts := func(done float64) func() bool {
		return func() bool {
			return slices.Equal(j.Status().Numbers, []airflowctl.Number{{Name: "done", Value: done}, {Name: "left", Value: 7}})
		}
	}
	takeOver(t, j, claim(1, "a"))
	eventually(t, "it counts", counts(1))
	must(t, os.WriteFile(dir+"/go", nil, 0o600))
	eventually(t, "it goes on counting", counts(2))
	must(t, j.Stop(t.Context(), 1, 0))
	if s := j.Status(); len(s.Numbers) != 0 {
		t.Errorf("after its end: %v", s.Numbers)
	}
}
