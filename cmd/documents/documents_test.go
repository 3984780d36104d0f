package documents

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/cobra"
)

func TestRead(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"a.md", "sub/b.cfg", "sub/c.go", "bin/d.md"} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	texts, err := Read(root)
	if err != nil || len(texts) != 2 || texts[filepath.Join(root, "a.md")] != "a.md" || texts[filepath.Join(root, "sub", "b.cfg")] != "sub/b.cfg" {
		t.Errorf("%v, %v", texts, err)
	}
	if _, err := Read(filepath.Join(root, "gone")); err == nil {
		t.Error("a folder that is not there was read")
	}
}

func TestBlocks(t *testing.T) {
	text := "```sh\none\n```\n```yaml\ntwo\n```\n  ```\n  three\n  ```\n"
	if got := Blocks(text, "sh", ""); !slices.Equal(got, []string{"one\n", "  three\n"}) {
		t.Errorf("%q", got)
	}
	if got := Blocks(text, "yaml"); !slices.Equal(got, []string{"two\n"}) {
		t.Errorf("%q", got)
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct{ path, text, want string }{
		{"x.md", "```sh\n$ ctl a --b 'c d'   # remark\n```", `[a --b c d]*`},
		{"x.md", "```sh\nX=1 sudo bin/ctl a && ctl b >out; other | ctl c\n```", `[a]* [b]* [c]*`},
		{"x.md", "```sh\nfor n in a b; do ctl $n.yaml 2>$n.log & done\n```", `[$n.yaml]*`},
		{"x.md", "```sh\nctl a \\\n  --b\n```", `[a --b]*`},
		{"x.md", "```console\n$ ctl a\nan answer\n```", `[a]*`},
		{"x.md", "ctl is a program\n```go\nctl a\n```\n```sh\nother ctl\n```", ``},
		{"x.md", "see `ctl a --b`, `ctl` and `ctl a: it says`", `[a --b]`},
		{"x.cfg", "#   ctl a --b\n", `[a --b]*`},
		{"x.yml", "action: 'see `ctl a`'\n", `[a]`},
	} {
		got := ""
		for _, found := range Commands(c.path, c.text, "ctl") {
			got += fmt.Sprint(found.Words)
			if found.Whole {
				got += "*"
			}
			got += " "
		}
		if want := c.want; got != want && got != want+" " {
			t.Errorf("%q: %q, want %q", c.text, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	root := func() *cobra.Command {
		r := &cobra.Command{Use: "ctl"}
		a := &cobra.Command{Use: "a FILE", Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error { return nil }}
		a.Flags().String("b", "", "")
		r.AddCommand(a)
		return r
	}
	for _, c := range []struct {
		words       []string
		whole, good bool
	}{
		{[]string{"a", "x", "--b", "y"}, true, true},
		{[]string{"a", "--help"}, false, true},
		{[]string{"a"}, true, false},
		{[]string{"a"}, false, true},
		{[]string{"a", "--b"}, false, true},
		{[]string{"a", "x", "--b"}, true, false},
		{[]string{"a", "--c"}, false, false},
		{[]string{"z"}, false, false},
	} {
		cmd, err := Parse(root(), Command{Words: c.words, Whole: c.whole})
		if (err == nil) != c.good || c.good && cmd.Name() != "a" {
			t.Errorf("%v: %v", c, err)
		}
	}
}
