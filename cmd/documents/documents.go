// Package documents finds what the repository's documents show people to type, so that the tests of the programs can hold it against the
// programs. Nothing else uses it.
package documents

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// kinds are the files that show commands: everything people read, and what their Prometheus and their balancer tell them to do.
var kinds = []string{".md", ".yml", ".cfg"}

// skipped are folders that are not part of the repository's text.
var skipped = []string{".git", ".cache", ".run", "bin", "testdata"}

// Read returns the documents below root, by path.
func Read(root string) (map[string]string, error) {
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || !slices.Contains(kinds, filepath.Ext(path)):
			return nil
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	return texts, nil
}

var block = regexp.MustCompile("(?ms)^[ \t]*```(\\w*)[^\n]*\n(.*?)^[ \t]*```")

// Blocks are the code blocks of a Markdown text that are in one of these languages.
func Blocks(text string, languages ...string) []string {
	var all []string
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		if slices.Contains(languages, m[1]) {
			all = append(all, m[2])
		}
	}
	return all
}
