package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestWriteMakesAReadableProgramAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "life", "shim")
	for range 2 { // the second replaces
		path, err := Write(dir)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, want 0644: the scheduler's user must read it", info.Mode())
		}
		text, err := os.ReadFile(path)
		if err != nil || string(text) != string(program) {
			t.Errorf("program differs from the embedded one (%v)", err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("entries %v, err %v; want the program alone", entries, err)
	}
}

func TestWriteRefusesADirectoryWithModules(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "airflow_local_settings.py"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(dir); err == nil || !strings.Contains(err.Error(), "airflow_local_settings.py") {
		t.Errorf("err = %v, want a refusal that names the file", err)
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]Report{
		"warm 12 2.250":            {Kind: Warm, PID: 12, Took: 2250 * time.Millisecond},
		"job 7":                    {Kind: Job, Job: 7},
		"loop":                     {Kind: Loop},
		"note a: b c":              {Kind: Note, Text: "a: b c"},
		"note ":                    {Kind: Note},
		"warm":                     {},
		"warm 12":                  {},
		"warm -1 2":                {},
		"warm 1 NaN":               {},
		"warm 1 1e300":             {},
		"job":                      {},
		"job x":                    {},
		"loop 1":                   {},
		"":                         {},
		"ready":                    {},
		"job 99999999999999999999": {},
	} {
		got, err := Parse(line)
		if got != want || (err == nil) != (want.Kind != "") {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", line, got, err, want)
		}
	}
	if Go(18446744073709551615) != "go 18446744073709551615" {
		t.Error("go line of the largest epoch is wrong")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("warm 12 2.250")
	f.Add("job 7")
	f.Fuzz(func(t *testing.T, line string) {
		report, err := Parse(line)
		if err != nil && report != (Report{}) {
			t.Errorf("Parse(%q) = %+v beside an error", line, report)
		}
		if err != nil {
			if !strings.Contains(err.Error(), strconv.Quote(line)) {
				t.Errorf("%v does not show the line", err)
			}
			return
		}
		if !strings.HasPrefix(line, string(report.Kind)) || report.PID < 0 || report.Took < 0 {
			t.Errorf("Parse(%q) = %+v", line, report)
		}
		said := map[Kind]string{
			Warm: fmt.Sprintf("warm %d %.9f", report.PID, report.Took.Seconds()), Job: fmt.Sprintf("job %d", report.Job), Loop: "loop", Note: "note " + report.Text,
		}[report.Kind]
		if again, err := Parse(said); err != nil || again.Kind != report.Kind || again.PID != report.PID || again.Job != report.Job || again.Text != report.Text ||
			(again.Took-report.Took).Abs() > time.Microsecond {
			t.Errorf("%q is %+v, and %q is %+v, %v", line, report, said, again, err)
		}
	})
}
