package manual

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Program is what a page says beyond what the commands say of themselves.
type Program struct {
	Name    string
	Section int
	// Foot stands at the page's foot: the version.
	Foot string
	// Also are the other pages to read, as duoctl(1).
	Also []string
}

// Command returns a hidden command that writes the manual page of the program it belongs to. scripts/package calls it.
func Command(p Program) *cobra.Command {
	return &cobra.Command{
		Use:     "manual",
		Short:   "Write the manual page",
		Example: "  " + p.Name + " manual | man -l -",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), Of(cmd.Root(), p))
			return err
		},
	}
}

// Of is the manual page of a program whose commands are root's.
func Of(root *cobra.Command, p Program) string {
	page := &Page{}
	page.Title(p.Name, p.Section, p.Foot)
	page.Name(p.Name, lower(root.Short))
	page.Section("synopsis")
	synopsis := strings.TrimSpace(root.UseLine())
	if root.HasAvailableSubCommands() {
		synopsis += "\n\n" + p.Name + " COMMAND [ARGUMENTS] [flags]"
	}
	page.Text(synopsis)
	page.Section("description")
	page.Text(first(root.Long, root.Short+"."))
	page.Section("options")
	flags(page, root.LocalFlags())
	if root.HasAvailableSubCommands() {
		page.Section("commands")
		below(page, root)
	}
	examples(page, root, page.Section)
	page.Section("see also")
	page.Text(strings.Join(p.Also, ", "))
	return page.String()
}

// below writes the commands of a command, each with its own.
func below(page *Page, parent *cobra.Command) {
	for _, c := range parent.Commands() {
		if !c.IsAvailableCommand() || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		page.Subsection(strings.TrimPrefix(strings.TrimSuffix(c.UseLine(), " [flags]"), c.Root().Name()+" "))
		page.Text(first(c.Long, c.Short+"."))
		flags(page, c.NonInheritedFlags())
		if !c.HasAvailableSubCommands() { // else those below have better ones
			examples(page, c, func(string) { page.Text("\n\nExamples:") })
		}
		below(page, c)
	}
}

func examples(page *Page, c *cobra.Command, begin func(string)) {
	if c.Example == "" {
		return
	}
	begin("examples")
	page.Text("\n  " + strings.TrimPrefix(c.Example, "  "))
}

func flags(page *Page, set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		page.Item(term, kind, usage)
	})
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// lower makes the first letter small, unless the word is a name.
func lower(text string) string {
	letter, size := utf8.DecodeRuneInString(text)
	if next, _ := utf8.DecodeRuneInString(text[size:]); unicode.IsUpper(next) {
		return text
	}
	return string(unicode.ToLower(letter)) + text[size:]
}
