// Package statusline writes the file in which a program says one line of itself for people.
package statusline

import "os"

// Put replaces the file as a whole; an empty path is nobody who wants to know. What cannot be written is lost: the program goes on
// without it.
func Put(path, line string) {
	if path == "" {
		return
	}
	if err := os.WriteFile(path+".new", []byte(line+"\n"), 0o600); err == nil {
		_ = os.Rename(path+".new", path)
	}
}
