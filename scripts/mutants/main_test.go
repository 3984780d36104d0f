package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// small is a program with a test of its own, and mutants of every fate.
var small = map[string]string{
	"go.mod": "module small\n",
	"a.go":   "package small\n\nfunc Two() int {\n\treturn 1 + 1\n}\n\nfunc Three() int { return 3 }\n\nfunc Four() int { return 4 }\n",
	"a_test.go": `package small

import "testing"

func TestTwo(t *testing.T) {
	if Two() != 2 {
		t.Error("not two")
	}
}

func TestNothing(t *testing.T) {}

func TestParts(t *testing.T) {
	t.Run("two", TestTwo)
	t.Run("nothing", TestNothing)
}

func TestBroken(t *testing.T) { t.Error("always") }
`,
}

const seen = "== seen\nfile a.go\ntest TestTwo\n-\treturn 1 + 1\n+\treturn 1 + 2\n"

func TestOnlyAMutantThatFailsItsTestIsSeen(t *testing.T) {
	for name, c := range map[string]struct{ mutants, want string }{
		"two places":         {"== seen\nfile a.go\ntest TestTwo\n-\treturn 1 + 1\n+\treturn 1 + Three()\n-func Three() int { return 3 }\n+func Three() int { return 4 }\n", ""},
		"seen":               {seen, ""},
		"one test of two":    {strings.Replace(seen, "TestTwo", "TestTwo TestNothing", 1), "the test passes"},
		"a part":             {strings.Replace(seen, "TestTwo", "TestParts/two", 1), ""},
		"another part":       {strings.Replace(seen, "TestTwo", "TestParts/nothing", 1), "the test passes"},
		"no such part":       {strings.Replace(seen, "TestTwo", "TestParts/tw", 1), "there is no such test"},
		"not seen":           {strings.Replace(seen, "TestTwo", "TestNothing", 1), "the test passes"},
		"broken before":      {strings.Replace(seen, "TestTwo", "TestBroken", 1), "does not pass without it"},
		"no such test":       {strings.Replace(seen, "TestTwo", "TestTw", 1), "there is no such test"},
		"does not compile":   {strings.Replace(seen, "1 + 2", "x", 1), "did not run to its end"},
		"another place":      {strings.Replace(seen, "1 + 1", "1+1", 1), errPlace.Error()},
		"one of two":         {seen + strings.Replace(seen, "TestTwo", "TestNothing", 1), "the test passes"},
		"no server for that": {strings.Replace(seen, "test TestTwo", "test TestTwo\non 99", 1), "no Postgres 99"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range small {
				write(t, filepath.Join(dir, file), text)
			}
			list := filepath.Join(dir, "mutants.txt")
			write(t, list, "# comment\n\n"+c.mutants)
			var out strings.Builder
			err := run(&out, []string{list}, options{output: "table", parallel: 2})
			if (err == nil) != (c.want == "") || !strings.Contains(out.String(), c.want) {
				t.Errorf("err = %v, want %q in\n%s", err, c.want, out.String())
			}
			if text, err := os.ReadFile(filepath.Join(dir, "a.go")); err != nil || string(text) != small["a.go"] {
				t.Errorf("the tree was changed: %v\n%s", err, text)
			}
		})
	}
}

func TestAFileThatSaysNothingIsRefused(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "file a.go\n", "== x\n", "== x\nfile a.go\ntest TestTwo\n", "== x\n+y\n", seen + "what\n"} {
		list := filepath.Join(t.TempDir(), "mutants.txt")
		write(t, list, text)
		if all, err := read(list); err == nil {
			t.Errorf("%q gives %+v", text, all)
		}
	}
	if err := run(new(strings.Builder), nil, options{output: "table", parallel: 1}); err == nil {
		t.Error("no mutants are a success")
	}
}

// The lists of this repository must be readable, and each mutant must have its place in the code of now.
func TestTheMutantsOfTheHouseHaveTheirPlace(t *testing.T) {
	var lists []string
	for _, where := range []string{"../../*/mutants.txt", "../../*/*/mutants.txt"} {
		found, err := filepath.Glob(where)
		if err != nil {
			t.Fatal(err)
		}
		lists = append(lists, found...)
	}
	if len(lists) < 5 {
		t.Fatalf("only %v", lists)
	}
	for _, list := range lists {
		all, err := read(list)
		if err != nil {
			t.Error(err)
		}
		for _, m := range all {
			if _, err := m.apply(); err != nil {
				t.Errorf("%s: %s: %v", list, m.name, err)
			}
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
