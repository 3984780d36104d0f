package program_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/scripts/program"
)

// example is a program with a flag -n, whose play ends as it is told.
func example(n *int, broken []string, fails error) program.Program {
	return program.Program{
		Name: "example", Usage: "usage: example\n",
		Flags: func(set *flag.FlagSet) { set.IntVar(n, "n", 1, "a number") },
		Check: func(rest []string) error {
			if len(rest) > 0 {
				return errors.New("too much")
			}
			return nil
		},
		Play: func(context.Context, io.Writer) (*program.Result, error) {
			table := func(out io.Writer) error { _, err := io.WriteString(out, "a table\n"); return err }
			return &program.Result{Report: map[string]int{"n": *n}, Table: table, Broken: broken}, fails
		},
	}
}

func TestRun(t *testing.T) {
	indented := func(p program.Program) program.Program { p.Text, p.Indent = "text", "  "; return p }
	same := func(p program.Program) program.Program { return p }
	for _, tt := range []struct {
		name, args     string
		with           func(program.Program) program.Program
		broken         []string
		fails          error
		code           int
		stdout, stderr string
	}{
		{"a table", "", same, nil, nil, 0, "a table\n", ""},
		{"JSON", "-o json -n 7", same, nil, nil, 0, "{\"n\":7}\n", ""},
		{"JSON of several lines", "-o json", indented, nil, nil, 0, "{\n  \"n\": 1\n}\n", ""},
		{"another word for a table", "-o text", indented, nil, nil, 0, "a table\n", ""},
		{"not sound", "", same, []string{"one", "two"}, nil, 1, "a table\n", "example: one\nexample: two\n"},
		{"an unknown form", "-o text", same, nil, nil, 2, "", "example: -o \"text\"; want table or json\n"},
		{"refused by Check", "what", same, nil, nil, 2, "", "example: too much\n"},
		{"could not be played", "", same, nil, errors.New("no room"), 3, "", "example: no room\n"},
	} {
		var n int
		var stdout, stderr strings.Builder
		code := tt.with(example(&n, tt.broken, tt.fails)).Run(t.Context(), strings.Fields(tt.args), &stdout, &stderr)
		if code != tt.code || stdout.String() != tt.stdout || stderr.String() != tt.stderr {
			t.Errorf("%s: code %d, stdout %q, stderr %q", tt.name, code, stdout.String(), stderr.String())
		}
	}
}

func TestHelpAndUnknownFlags(t *testing.T) {
	var n int
	for arg, want := range map[string]int{"-h": 0, "-nonsense": 2} {
		var stdout, stderr strings.Builder
		if code := example(&n, nil, nil).Run(t.Context(), []string{arg}, &stdout, &stderr); code != want {
			t.Errorf("%s: exit code %d, want %d", arg, code, want)
		}
		if got := stderr.String(); !strings.Contains(got, "usage: example\n  -n int\n") || !strings.Contains(got, "table or json (default \"table\")") {
			t.Errorf("%s: %s", arg, got)
		}
	}
}

// TestNobodyReads: a report that could not be written is no success.
func TestNobodyReads(t *testing.T) {
	reader, writer := io.Pipe()
	reader.Close()
	for _, form := range []string{"table", "json"} {
		var n int
		var stderr strings.Builder
		if code := example(&n, nil, nil).Run(t.Context(), []string{"-o", form}, writer, &stderr); code != 3 || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d, %q", form, code, stderr.String())
		}
	}
}
