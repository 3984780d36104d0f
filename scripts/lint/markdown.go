package lint

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	fenced   = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```")
	inline   = regexp.MustCompile("`([^`\n]+)`")
	link     = regexp.MustCompile(`\]\(([^)#\s]+)(?:#[^)\s]*)?\)`)
	scheme   = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
	repoPath = regexp.MustCompile(`^(?:\./)?([\w.-]+(?:/[\w.*-]+)*)(?:/|/\.\.\.)?$`)
	// lineSuffix is the 12 of file.go:12.
	lineSuffix = regexp.MustCompile(`:\d+(-\d+)?$`)
	symbol     = regexp.MustCompile(`\.[A-Z]\w*(\.\w+)*$`)
	testName   = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
)

// markdownRule checks that the paths, links and test names that documents mention exist. A word in backticks is taken
// for a path when it has a slash and begins with a directory at the root of the repository.
func markdownRule(t *tree) []Finding {
	tests := map[string]bool{}
	for _, s := range t.files {
		for _, f := range functions(s) {
			tests[f.Name.Name] = true
		}
	}
	var out []Finding
	for _, doc := range slices.Sorted(maps.Keys(t.docs)) {
		for i, line := range strings.Split(blankFenced(t.docs[doc]), "\n") {
			for _, text := range lineProblems(t, doc, line, tests) {
				out = append(out, Finding{File: doc, Line: i + 1, Rule: "markdown", Text: text})
			}
		}
	}
	return out
}

// blankFenced empties fenced code blocks but keeps the line numbers.
func blankFenced(text string) string {
	return fenced.ReplaceAllStringFunc(text, func(block string) string { return strings.Repeat("\n", strings.Count(block, "\n")) })
}

func lineProblems(t *tree, doc, line string, tests map[string]bool) []string {
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
	}
	for _, m := range link.FindAllStringSubmatch(inline.ReplaceAllString(line, ""), -1) {
		if !scheme.MatchString(m[1]) && !t.paths[path.Join(path.Dir(doc), m[1])] {
			out = append(out, "broken link: "+m[1])
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
