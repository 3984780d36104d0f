// Package manual writes manual pages: that of a program from its commands, as its own --help has them, and others by hand.
package manual

import (
	"fmt"
	"strings"
)

// Page is the text of a manual page as man(7) wants it. The zero value is empty; Title comes first.
type Page struct{ text strings.Builder }

// Title begins the page: its name, its section, and what stands at its foot.
func (p *Page) Title(name string, section int, foot string) {
	fmt.Fprintf(&p.text, ".TH %s %d \"\" %s duoflow\n", quoted(strings.ToUpper(name)), section, quoted(foot))
}

// Section begins one.
func (p *Page) Section(title string) {
	fmt.Fprintf(&p.text, ".SH %s\n", quoted(strings.ToUpper(title)))
}

// Subsection begins a part of a section.
func (p *Page) Subsection(title string) { fmt.Fprintf(&p.text, ".SS %s\n", quoted(title)) }

// Name is what whatis(1) finds.
func (p *Page) Name(name, short string) {
	p.Section("name")
	fmt.Fprintf(&p.text, "%s \\- %s\n", plain(name), plain(short))
}

// Text is paragraphs, between which there are empty lines. Lines that begin with two spaces stay as they are, as do empty ones between those.
func (p *Page) Text(text string) {
	verbatim, empty := false, 0
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && strings.HasPrefix(line, "  ") != verbatim {
			verbatim, empty = !verbatim, 0
			p.text.WriteString(map[bool]string{true: ".PP\n.nf\n.RS 2\n", false: ".RE\n.fi\n.PP\n"}[verbatim])
		}
		if line == "" {
			empty++
			continue
		}
		p.text.WriteString(strings.Repeat(map[bool]string{true: "\n", false: ".PP\n"}[verbatim], empty))
		empty = 0
		p.text.WriteString(safe(strings.TrimPrefix(line, "  ")) + "\n")
	}
	if verbatim {
		p.text.WriteString(".RE\n.fi\n")
	}
}

// Item is a term, shown bold, a remark behind it that is not, and what is said of it.
func (p *Page) Item(term, remark, text string) {
	fmt.Fprintf(&p.text, ".TP\n\\fB%s\\fR", plain(term))
	if remark != "" {
		fmt.Fprintf(&p.text, " %s", plain(remark))
	}
	p.text.WriteString("\n" + safe(strings.Join(strings.Fields(text), " ")) + "\n")
}

// String is the page.
func (p *Page) String() string { return p.text.String() }

// plain is text as roff prints it: a dash would become a hyphen that nobody can copy.
func plain(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "'", `\(aq`).Replace(text)
}

// safe is a line of plain text, which no roff command can be at the beginning of.
func safe(line string) string {
	line = plain(line)
	if strings.HasPrefix(line, ".") {
		return `\&` + line
	}
	return line
}

func quoted(text string) string {
	return `"` + strings.ReplaceAll(plain(text), `"`, `\(dq`) + `"`
}
