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
	replace(path, []byte(text))
}

// PutDetail replaces the file beside it in which a program says at length, as JSON, what duoctl shows to who asks. The rules are those of
// Put; what is longer than 256 KiB nobody reads.
func PutDetail(path string, text []byte) {
	if path != "" {
		replace(path+".json", text)
	}
}

// Detail is what PutDetail wrote last; nothing when it did not.
func Detail(path string) []byte {
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		return nil
	}
	return text
}

func replace(path string, text []byte) {
	if err := os.WriteFile(path+".new", text, 0o600); err == nil {
		_ = os.Rename(path+".new", path)
	}
}
