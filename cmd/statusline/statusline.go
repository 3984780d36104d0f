// Package statusline writes the file in which a program says one line of itself for people, and numbers for their graphs.
package statusline

import (
	"fmt"
	"os"
)

// Number is what a program counts of itself.
type Number struct {
	Name  string // [a-z][a-z0-9_]{0,31}
	Value int64
}

// Put replaces the file as a whole; an empty path is nobody who wants to know. What cannot be written is lost: the program goes on
// without it.
func Put(path, line string, numbers ...Number) {
	if path == "" {
		return
	}
	text := line + "\n"
	for _, n := range numbers {
		text += fmt.Sprintf("%s %d\n", n.Name, n.Value)
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err == nil {
		_ = os.Rename(path+".new", path)
	}
}
