package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestNoneIsForgotten compares with a plain search of the repository's text, and wants a corpus of each.
func TestNoneIsForgotten(t *testing.T) {
	found, err := find("../..")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)
	want := 0
	err = filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/.") && !strings.HasPrefix(path, "../..") || strings.Contains(path, "/.cache/") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			want++
			dir, relErr := filepath.Rel("../..", filepath.Dir(path))
			if relErr != nil || !slices.Contains(found, Fuzzer{Dir: dir, Name: m[1]}) {
				t.Errorf("%s in %s is not found", m[1], path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != want || want < 20 {
		t.Errorf("%d fuzzers are found, the text has %d", len(found), want)
	}
	for _, f := range found {
		kept, err := inputs(filepath.Join("../..", f.corpus()))
		if err != nil || len(kept) == 0 {
			t.Errorf("%s has no corpus in the repository: %v; go run ./scripts/fuzz -keep -only %s", f, err, f)
		}
	}
}

func TestFindLooksAtWhatAFunctionTakes(t *testing.T) {
	dir := t.TempDir()
	text := "//go:build never\n\npackage p\n\nimport \"testing\"\n\nfunc FuzzA(f *testing.F) {}\nfunc FuzzB(t *testing.T) {}\nfunc (x) FuzzC(f *testing.F) {}\nfunc fuzzD(f *testing.F) {}\n"
	for _, name := range []string{"p/a_test.go", "testdata/a_test.go", ".git/a_test.go", "p/a.go"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := find(dir); err != nil || !slices.Equal(got, []Fuzzer{{"p", "FuzzA"}}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestReadsWhatGoSays(t *testing.T) {
	var r Run
	r.read("fuzz: elapsed: 0s, gathering baseline coverage: 0/1 completed\nfuzz: elapsed: 3s, execs: 4205 (1401/sec), new interesting: 26 (total: 27)\n" +
		"fuzz: elapsed: 6s, execs: 7999 (1889/sec), new interesting: 38 (total: 39)\nPASS\n")
	if r.Executions != 7999 || r.New != 38 || r.Total != 39 {
		t.Errorf("%+v", r)
	}
	if got := tail("fuzz: elapsed: 3s, execs: 1\n--- FAIL: FuzzX\n    why\n"); got != "--- FAIL: FuzzX\n    why\n" {
		t.Errorf("%q", got)
	}
}

// TestAReportCanFail: each way to be unsound is named.
func TestAReportCanFail(t *testing.T) {
	good := Run{Fuzzer: Fuzzer{"p", "FuzzX"}, Executions: 1, Peak: 10}
	failed, empty, fat := good, good, good
	failed.Failure, empty.Executions, fat.Peak = "--- FAIL", 0, 99
	for want, run := range map[string]Run{"": good, "p.FuzzX FAILED": failed, "p.FuzzX ran nothing": empty, "p.FuzzX held 99 MiB": fat} {
		got := strings.Join((&Report{Memory: 50, Runs: []Run{run}}).broken(), "")
		if !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
	var out strings.Builder
	if err := (&Report{Memory: 50, Runs: []Run{good, failed}}).table(&out); err != nil || !strings.Contains(out.String(), "1 ok, 1 failed") {
		t.Errorf("%s, %v", out.String(), err)
	}
}

func TestFewest(t *testing.T) {
	all := []input{
		{name: "small", text: []byte("1"), reaches: []string{"a"}}, {name: "other", text: []byte("12"), reaches: []string{"a"}},
		{name: "both", text: []byte("123"), reaches: []string{"a", "b"}}, {name: "third", text: []byte("1234"), reaches: []string{"c"}},
	}
	var names []string
	for _, in := range fewest(all) {
		names = append(names, in.name)
	}
	if !slices.Equal(names, []string{"both", "third"}) {
		t.Errorf("%v", names)
	}
	if got := reached([]byte("mode: set\nx.go:1.1,2.2 1 1\nx.go:3.1,4.2 2 0\n")); !slices.Equal(got, []string{"x.go:1.1,2.2"}) {
		t.Errorf("%v", got)
	}
}

func TestReplaceIsUndone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "corpus")
	if _, err := replace(dir, []input{{name: "a", text: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	restore, err := replace(dir, []input{{name: "b", text: []byte("2")}})
	if err != nil {
		t.Fatal(err)
	}
	if now, err := inputs(dir); err != nil || len(now) != 1 || now[0].name != "b" {
		t.Errorf("%v, %v", now, err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if now, err := inputs(dir); err != nil || len(now) != 1 || string(now[0].text) != "1" {
		t.Errorf("%v, %v", now, err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"-o xml", "-seconds 0", "-parallel 0", "-list -keep", "what", "-only "} {
		var out strings.Builder
		if code := run(t.Context(), strings.Fields(args), &out, &out); code != 2 || out.Len() == 0 {
			t.Errorf("%s: exit code %d, %q", args, code, out.String())
		}
	}
	o := &options{only: "lease,FuzzX"}
	if got := o.chosen([]Fuzzer{{"node/lease", "FuzzA"}, {"node", "FuzzX"}, {"node", "FuzzY"}}); len(got) != 2 {
		t.Errorf("%v", got)
	}
}
