package control

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The table for people to read, beside the code: testdata holds stories only, every file of it is played.
const tableFile = "table.md"

var rewriteTable = flag.Bool("rewrite-table", false, "write "+tableFile+" anew")

// TestTableIsWritten keeps table.md true. Rewrite with `go test ./node/control -run Table -rewrite-table`, and read
// the difference: it is a difference in what the hosts do.
func TestTableIsWritten(t *testing.T) {
	got := markdown()
	if *rewriteTable {
		if err := os.WriteFile(tableFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what transition.go says; got\n%s", tableFile, got)
	}
}

func markdown() string {
	var b strings.Builder
	b.WriteString("# What a host does about a job\n\nMade from transition.go by a test; the first row that fits is taken.\n\n")
	b.WriteString("| in | on | if | to | does | because |\n|---|---|---|---|---|---|\n")
	for i := range table {
		r := &table[i]
		var from []string
		for _, s := range r.from {
			from = append(from, string(s))
		}
		to := string(r.to)
		if r.to == same {
			to = "(stays)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n",
			strings.Join(from, ", "), r.on, guardName(r), to, funcName(r.do), r.say)
	}
	return b.String()
}

// guardName names a guard; one that was made for an outcome is asked which.
func guardName(r *row) string {
	name := funcName(r.when)
	if !strings.Contains(name, "ended.func") {
		return name
	}
	var fits []string
	for _, o := range []Outcome{OK, Failed, Superseded, Refused} {
		if r.when(nil, Done{Outcome: o}) {
			fits = append(fits, string(o))
		}
	}
	return strings.Join(fits, ", ")
}

func funcName(f any) string {
	v := reflect.ValueOf(f)
	if v.IsNil() {
		return ""
	}
	name := runtime.FuncForPC(v.Pointer()).Name()
	name = strings.TrimPrefix(filepath.Base(name), "control.")
	return strings.TrimPrefix(name, "(*Machine).")
}

func TestRowsAreWhole(t *testing.T) {
	said := map[string]int{}
	for i := range table {
		r := &table[i]
		switch {
		case len(strings.Fields(r.say)) < 4 || strings.HasSuffix(r.say, ".") || r.say != strings.TrimSpace(r.say):
			t.Errorf("row %d: %q is not a sentence of the kind the others are", i, r.say)
		case len(r.from) == 0 || r.on == "":
			t.Errorf("row %d: from %v on %q", i, r.from, r.on)
		case r.to == same && r.do == nil:
			t.Errorf("row %d neither goes anywhere nor does anything", i)
		case slices.Contains(r.from, Witness) || r.to == Witness || r.to == Boot:
			t.Errorf("row %d: a witness stays one, and boot is never come back to", i)
		case slices.Contains(r.from, r.to):
			t.Errorf("row %d: goes from %s to itself; that is %q", i, r.to, "same")
		}
		for _, s := range append(slices.Clone(r.from), r.to) {
			if s != same && !slices.Contains(allStates, s) {
				t.Errorf("row %d: %q is no state", i, s)
			}
		}
		if other, ok := said[r.say]; ok {
			t.Errorf("rows %d and %d say the same: %s", other, i, r.say)
		}
		said[r.say] = i
	}
}

// TestNoRowIsShadowed finds rows that an earlier one leaves nothing to: same state, same event, and no guard, or the
// very same guard. That rows behind other guards can be reached is shown by TestRandomWalks.
func TestNoRowIsShadowed(t *testing.T) {
	if found := shadowed(table); len(found) > 0 {
		t.Error(found)
	}
	bad := []row{
		{from: in(Active, Starting), on: onQuit}, {from: in(Active), on: onQuit, when: due},
		{from: in(Boot), on: onTick, when: due}, {from: in(Boot, Standby), on: onTick, when: due},
	}
	if got := fmt.Sprint(shadowed(bad)); got != "[row 1 in active is shadowed by row 0 row 3 in boot is shadowed by row 2]" {
		t.Errorf("of a bad table: %s", got)
	}
}

func shadowed(rows []row) []string {
	var found []string
	for j := range rows {
		for i := range rows[:j] {
			if rows[i].on != rows[j].on || (rows[i].when != nil && guardName(&rows[i]) != guardName(&rows[j])) {
				continue
			}
			for _, s := range rows[j].from {
				if slices.Contains(rows[i].from, s) {
					found = append(found, fmt.Sprintf("row %d in %s is shadowed by row %d", j, s, i))
				}
			}
		}
	}
	return found
}
