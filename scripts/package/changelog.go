package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/duoflow/duoflow/cmd/release"
)

// changelog is the package's, with one entry: what CHANGELOG.md says of this version, under "Unreleased" as long as it is the one to come.
func (j *job) changelog(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(j.root, "CHANGELOG.md"))
	if err != nil {
		return "", err
	}
	points := pointsOf(string(raw), release.Number)
	if len(points) == 0 && !j.stamp.tagged {
		points = pointsOf(string(raw), "Unreleased")
	}
	if len(points) == 0 {
		return "", fmt.Errorf("CHANGELOG.md says nothing under %q", release.Number)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s) unstable; urgency=medium\n\n", name, j.stamp.debian())
	for _, p := range points {
		b.WriteString(wrapped(p))
	}
	fmt.Fprintf(&b, "\n -- %s  %s\n", maintainer, j.stamp.at.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	return b.String(), nil
}

// pointsOf are the list under a heading.
func pointsOf(markdown, title string) []string {
	_, after, _ := strings.Cut(markdown, "\n## ")
	for after != "" && !headed(after, title) {
		_, after, _ = strings.Cut(after, "\n## ")
	}
	after, _, _ = strings.Cut(after, "\n## ")
	var points []string
	for line := range strings.Lines(after) {
		switch {
		case strings.HasPrefix(line, "- "):
			points = append(points, strings.TrimSpace(line[2:]))
		case strings.HasPrefix(line, "  ") && len(points) > 0:
			points[len(points)-1] += " " + strings.TrimSpace(line)
		}
	}
	return points
}

// headed reports whether a section has a title, which a date may follow: 1.0.0 is not 1.0.0-rc.1.
func headed(section, title string) bool {
	after, found := strings.CutPrefix(section, title)
	return found && strings.IndexAny(after, " \n") == 0
}

var marks = regexp.MustCompile("`|\\*\\*")

// wrapped is a point as lines of a Debian changelog.
func wrapped(point string) string {
	const width = 78
	text, line := "", "  *"
	for _, w := range strings.Fields(marks.ReplaceAllString(point, "")) {
		if len(line)+1+len(w) > width && strings.TrimSpace(line) != "*" {
			text, line = text+line+"\n", "   "
		}
		line += " " + w
	}
	return text + line + "\n"
}
