package lint

import (
	"regexp"
	"strings"
)

// stepsRule wants the tests of every package to be run by a step of script, the text of scripts/test. A step names a package, or a
// tree of them with /... at its end, on a line of go test.
func stepsRule(t *tree, script string) []Finding {
	var named []string
	for line := range strings.Lines(script) {
		if strings.Contains(line, "go test") {
			named = append(named, regexp.MustCompile(`\./[\w./-]+`).FindAllString(line, -1)...)
		}
	}
	var found []Finding
	seen := map[string]bool{}
	for _, s := range t.files {
		if dir := s.dir(); s.test && !seen[dir] && !runs(named, "./"+dir) {
			seen[dir] = true
			found = append(found, Finding{File: s.path, Rule: "steps", Text: "no step of scripts/test runs the tests of this package"})
		}
	}
	return found
}

func runs(named []string, dir string) bool {
	for _, n := range named {
		if tree, all := strings.CutSuffix(n, "/..."); n == dir || all && strings.HasPrefix(dir+"/", tree+"/") {
			return true
		}
	}
	return false
}
