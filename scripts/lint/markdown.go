package lint

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

var (
	fenced   = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```")
	inline   = regexp.MustCompile("`([^`\n]+)`")
	link     = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	heading  = regexp.MustCompile(`(?m)^#{1,6} +(.*?) *$`)
	shell    = regexp.MustCompile("(?ms)^[ \t]*```(?:sh|console)\n(.*?)^[ \t]*```")
	making   = regexp.MustCompile(`^make((?: +[\w.=,-]+)*)`)
	quoted   = regexp.MustCompile(`'[^']*'|"[^"]*"`)
	target   = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	scheme   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	repoPath = regexp.MustCompile(`^(?:\./)?([\w.-]+(?:/[\w.*-]+)*)(?:/|/\.\.\.)?$`)
	// lineSuffix is the 12 of file.go:12.
	lineSuffix = regexp.MustCompile(`:\d+(-\d+)?$`)
	symbol     = regexp.MustCompile(`\.[A-Z]\w*(\.\w+)*$`)
	testName   = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
)

// markdownRule checks that the paths, links, anchors, test names and make targets that documents mention exist. A word in backticks is taken
// for a path when it has a slash and begins with a directory at the root of the repository; in a block of a shell, when it begins with scripts/.
func markdownRule(t *tree) []Finding {
	tests, anchors := map[string]bool{}, map[string]map[string]bool{}
	for _, s := range t.files {
		for _, f := range functions(s) {
			tests[f.Name.Name] = true
		}
	}
	for doc, text := range t.docs {
		anchors[doc] = anchorsOf(blankFenced(text))
	}
	var out []Finding
	for _, doc := range slices.Sorted(maps.Keys(t.docs)) {
		text := t.docs[doc]
		for i, line := range strings.Split(blankFenced(text), "\n") {
			for _, text := range slices.Concat(lineProblems(t, line, tests), linkProblems(t, doc, line, anchors)) {
				out = append(out, Finding{File: doc, Line: i + 1, Rule: "markdown", Text: text})
			}
		}
		for _, m := range shell.FindAllStringSubmatchIndex(text, -1) {
			for i, line := range strings.Split(text[m[2]:m[3]], "\n") {
				for _, problem := range shellProblems(t, line) {
					out = append(out, Finding{File: doc, Line: strings.Count(text[:m[2]], "\n") + i + 1, Rule: "markdown", Text: problem})
				}
			}
		}
	}
	return out
}

// blankFenced empties fenced code blocks but keeps the line numbers.
func blankFenced(text string) string {
	return fenced.ReplaceAllStringFunc(text, func(block string) string { return strings.Repeat("\n", strings.Count(block, "\n")) })
}

func lineProblems(t *tree, line string, tests map[string]bool) []string {
	var out []string
	for _, m := range inline.FindAllStringSubmatch(line, -1) {
		for _, word := range strings.Fields(m[1]) {
			if name := testName.FindString(word); name != "" && !tests[name] {
				out = append(out, "no test called "+name)
			}
			if !t.mentions(word) {
				out = append(out, "no such path: "+word)
			}
		}
		out = append(out, t.makeProblems(m[1])...)
	}
	return out
}

// linkProblems looks at where a line's links go: to a file or folder, and to a heading of a document.
func linkProblems(t *tree, doc, line string, anchors map[string]map[string]bool) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(inline.ReplaceAllString(line, ""), -1) {
		at := doc
		if m[1] != "" {
			at = path.Join(path.Dir(doc), m[1])
		}
		switch {
		case scheme.MatchString(m[1]):
		case !t.paths[at]:
			out = append(out, "broken link: "+m[1])
		case m[2] != "" && !anchors[at][m[2]]:
			out = append(out, "no heading of "+at+" is #"+m[2])
		}
	}
	return out
}

// anchorsOf are the names by which headings are linked to, as GitHub makes them: small letters, a dash for each space, no other signs than
// dashes and underlines, and a number behind what is there already.
func anchorsOf(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, link.ReplaceAllString(m[1], ""))
		unique := name
		for i := 1; all[unique]; i++ {
			unique = name + "-" + strconv.Itoa(i)
		}
		all[unique] = true
	}
	return all
}

// shellProblems looks at a line that people may copy.
func shellProblems(t *tree, line string) []string {
	var out []string
	line, _, _ = strings.Cut(strings.TrimLeft(line, " $"), " #")
	for _, word := range strings.Fields(line) {
		if strings.HasPrefix(word, "scripts/") && !t.mentions(word) {
			out = append(out, "no such path: "+word)
		}
	}
	return append(out, t.makeProblems(line)...)
}

// makeProblems looks at the targets of a command that begins with make, and at the variables that it sets.
func (t *tree) makeProblems(command string) []string {
	m := making.FindStringSubmatch(quoted.ReplaceAllString(command, "x"))
	if m == nil {
		return nil
	}
	targets := map[string]bool{}
	for _, found := range target.FindAllStringSubmatch(t.makefile, -1) {
		targets[found[1]] = true
	}
	var out []string
	for _, word := range strings.Fields(m[1]) {
		name, _, sets := strings.Cut(word, "=")
		if sets && !strings.Contains(t.makefile, "("+name+")") && !strings.Contains(t.makefile, "("+name+",") && !strings.Contains(t.makefile, name+" ") {
			out = append(out, "the Makefile does not know "+name)
		}
		if !sets && !targets[word] {
			out = append(out, "make has no target "+word)
		}
	}
	return out
}

// mentions is false when word looks like a path of this repository and nothing is there.
func (t *tree) mentions(word string) bool {
	word = lineSuffix.ReplaceAllString(strings.TrimRight(word, ".,;:"), "")
	m := repoPath.FindStringSubmatch(word)
	if m == nil {
		return true
	}
	name := m[1]
	top, _, deep := strings.Cut(name, "/")
	if !deep || !t.paths[top] || slices.Contains(unread, top) {
		return true
	}
	return t.exists(name) || t.exists(symbol.ReplaceAllString(name, ""))
}

// exists matches name, which may hold *, against everything there is.
func (t *tree) exists(name string) bool {
	if !strings.Contains(name, "*") {
		return t.paths[name]
	}
	for p := range t.paths {
		if ok, err := path.Match(name, p); err == nil && ok {
			return true
		}
	}
	return false
}
