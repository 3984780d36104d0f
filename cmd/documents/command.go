package documents

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Command is one that a document shows.
type Command struct {
	// Text is how it stands there, Words the same as a shell would split it, without the program.
	Text  string
	Words []string
	// Whole: of a block that may be copied. Else it may be a mention without the values of its flags.
	Whole bool
}

var (
	span     = regexp.MustCompile("`([^`\n]+)`")
	variable = regexp.MustCompile(`^[A-Z_]+=\S*$`)
	// before are words that a command of ours may stand behind.
	before = []string{"sudo", "do", "then"}
)

// Commands finds the commands of a program that a document shows: in lines of its blocks, of its remarks when it is no Markdown, and in
// spans in backticks.
func Commands(path, text, program string) []Command {
	var all []Command
	blocks := []string{text}
	if filepath.Ext(path) == ".md" {
		blocks = Blocks(text, "", "sh", "console")
	}
	for _, b := range blocks {
		for line := range strings.Lines(strings.ReplaceAll(b, "\\\n", " ")) {
			if line = strings.TrimLeft(strings.TrimSpace(line), "#$ "); strings.Contains(line, "`") {
				continue // a sentence, whose spans are looked at below
			}
			for _, words := range split(line) {
				all = append(all, commands(line, words, program, true)...)
			}
		}
	}
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		for _, words := range split(m[1]) {
			all = append(all, commands(m[1], words, program, false)...)
		}
	}
	return all
}

// commands is the one that words are, if it is one of program's.
func commands(text string, words []string, program string, whole bool) []Command {
	for len(words) > 0 && (variable.MatchString(words[0]) || slices.Contains(before, words[0])) {
		words = words[1:]
	}
	if len(words) == 0 || filepath.Base(words[0]) != program || !whole && len(words) == 1 {
		return nil
	}
	if words = words[1:]; len(words) > 0 && strings.HasSuffix(words[0], ":") {
		return nil // "duoctl status: ..." is what it says, not what it is asked
	}
	return []Command{{Text: text, Words: words, Whole: whole}}
}

// split makes of a line the commands that a shell would run, each of its words. A remark ends the line, the name of a file that output
// goes to is no word.
func split(line string) [][]string {
	var all [][]string
	var words []string
	word, quoted, begun, ignored := "", rune(0), false, false
	endWord := func() {
		if begun && !ignored {
			words = append(words, word)
		}
		if begun {
			ignored = false
		}
		word, begun = "", false
	}
	endCommand := func() {
		endWord()
		if len(words) > 0 {
			all = append(all, words)
		}
		words, ignored = nil, false
	}
	for _, r := range line {
		switch {
		case quoted == 0 && (r == '"' || r == '\''):
			quoted, begun = r, true
		case r == quoted:
			quoted = 0
		case quoted == 0 && r == ' ':
			endWord()
		case quoted == 0 && (r == '>' || r == '<'):
			if strings.Trim(word, "0123456789") == "" {
				word, begun = "", false // 2>file
			}
			endWord()
			ignored = true
		case quoted == 0 && (r == '|' || r == ';' || r == '&'):
			endCommand()
		case quoted == 0 && r == '#' && !begun:
			endCommand()
			return all
		default:
			word, begun = word+string(r), true
		}
	}
	endCommand()
	return all
}

// Parse says what is wrong with a command of the program whose commands root is, without running it, and which one it is.
func Parse(root *cobra.Command, c Command) (*cobra.Command, error) {
	root.InitDefaultHelpFlag()
	root.InitDefaultVersionFlag()
	root.InitDefaultCompletionCmd(c.Words...)
	cmd, rest, err := root.Find(c.Words)
	if err != nil {
		return nil, err
	}
	cmd.InitDefaultHelpFlag()
	err = cmd.ParseFlags(rest)
	if err != nil && !c.Whole && strings.HasPrefix(err.Error(), "flag needs an argument") {
		return cmd, nil
	}
	if err == nil && c.Whole {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	return cmd, err
}
