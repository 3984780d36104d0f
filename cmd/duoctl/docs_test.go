package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// shownIn is where documents show commands: everything people read, and what their Prometheus tells them to do.
var shownIn = []string{".md", ".yml", ".cfg"}

var (
	spans    = regexp.MustCompile("`(duoctl [^`\n]+)`")
	variable = regexp.MustCompile(`^[A-Z_]+=\S*$`)
)

// shown is a command in a document.
type shown struct {
	at, text string
	whole    bool // of a block that may be copied; else it may be a mention without the values of its flags
}

// documents are the texts of the repository, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", ".cache", ".run", "bin", "testdata"}, entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || !slices.Contains(shownIn, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// commandsIn finds the commands in a text: lines of blocks that begin with one, and spans in backticks.
func commandsIn(path, text string) []shown {
	var all []shown
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		bare := strings.TrimSpace(strings.TrimLeft(strings.TrimSpace(line), "#$ "))
		for variable.MatchString(strings.SplitN(bare, " ", 2)[0]) && strings.Contains(bare, " ") {
			bare = strings.TrimSpace(strings.SplitN(bare, " ", 2)[1])
		}
		if strings.HasPrefix(bare, "duoctl ") && !strings.Contains(bare, "`") {
			all = append(all, shown{path, bare, true})
		}
		for _, m := range spans.FindAllStringSubmatch(line, -1) {
			all = append(all, shown{path, m[1], false})
		}
	}
	return all
}

// wordsOf splits a command as a shell would, up to what is not its own any more.
func wordsOf(text string) []string {
	var words []string
	word, quoted, begun := "", false, false
	end := func() {
		if begun {
			words = append(words, word)
		}
		word, begun = "", false
	}
	for _, r := range text {
		switch {
		case r == '"' || r == '\'':
			quoted, begun = !quoted, true
		case !quoted && r == ' ':
			end()
		case !quoted && (r == '|' || r == '>' || r == ';' || r == '&' || r == '#' && !begun):
			end()
			return words
		default:
			word, begun = word+string(r), true
		}
	}
	end()
	return words
}

// parse says what is wrong with a command, without running it, and which one it is.
func parse(words []string, whole bool) (*cobra.Command, error) {
	root := newRoot(&app{})
	root.InitDefaultHelpFlag()
	root.InitDefaultCompletionCmd(words...)
	cmd, rest, err := root.Find(words)
	if err != nil {
		return nil, err
	}
	cmd.InitDefaultHelpFlag()
	err = cmd.ParseFlags(rest)
	if err != nil && !whole && strings.HasPrefix(err.Error(), "flag needs an argument") {
		return cmd, nil
	}
	if err == nil && whole {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	return cmd, err
}

func TestCommandsInTheDocumentsExist(t *testing.T) {
	seen, names := 0, map[string]bool{}
	for path, text := range documents(t) {
		for _, c := range commandsIn(path, text) {
			words := wordsOf(c.text)[1:]
			if len(words) > 0 && strings.Contains(words[0], ":") {
				continue // "duoctl status: ..." is what it says, not what it is asked
			}
			cmd, err := parse(words, c.whole)
			if err != nil {
				t.Errorf("%s: %s: %v", c.at, c.text, err)
				continue
			}
			if seen++; path == filepath.Join("..", "..", "docs", "OPERATING.md") {
				names[cmd.CommandPath()] = true
			}
		}
	}
	if seen < 60 {
		t.Errorf("found only %d commands", seen)
	}
	for _, cmd := range leaves(newRoot(&app{})) {
		if !names[cmd.CommandPath()] {
			t.Errorf("docs/OPERATING.md does not show %s", cmd.CommandPath())
		}
	}
}

func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.HasSubCommands() {
		return []*cobra.Command{cmd}
	}
	var all []*cobra.Command
	for _, child := range cmd.Commands() {
		if !child.Hidden { // what is made for programs is not an operator's
			all = append(all, leaves(child)...)
		}
	}
	return all
}

// TestMistakesInDocumentsAreSeen: what the test above is for.
func TestMistakesInDocumentsAreSeen(t *testing.T) {
	for text, good := range map[string]bool{
		`duoctl status -o json | jq -r '.jobs[]'`:        true,
		`duoctl pause --for 2h --reason "kernel # of b"`: true,
		`duoctl switchover --to b   # now`:               true,
		`duoctl --endpoint 10.0.0.1:7402 status`:         true,
		`duoctl tls revoke --authority tls olga.pem`:     true,
		`duoctl tls revoke --authority tls`:              false,
		`duoctl status now`:                              false,
		`duoctl reload`:                                  false,
		`duoctl status --job scheduler`:                  false,
		`duoctl explain --epoch N`:                       false,
		`duoctl pause --for`:                             false,
	} {
		if _, err := parse(wordsOf(text)[1:], true); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestEveryAlertHasItsParagraph, and there is none for an alert that does not exist.
func TestEveryAlertHasItsParagraph(t *testing.T) {
	find := func(path, pattern string) []string {
		text, err := os.ReadFile(filepath.Join("..", "..", path))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
		return names
	}
	rules, paragraphs := find("scripts/monitoring/alerts.yml", `- alert: (\w+)`), find("docs/OPERATING.md", `(?m)^### (Duoflow\w+)\n\n\S`)
	if len(rules) == 0 || !slices.Equal(rules, paragraphs) {
		t.Errorf("alerts %v\nparagraphs %v", rules, paragraphs)
	}
}
