package main

import (
	"path/filepath"
	"testing"

	"github.com/duoflow/duoflow/cmd/documents"
)

// TestCommandsInTheDocumentsExist, and each stands in docs/OPERATING.md as it may be typed.
func TestCommandsInTheDocumentsExist(t *testing.T) {
	texts, err := documents.Read(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	seen, shown := 0, map[string]bool{}
	for path, text := range texts {
		for _, c := range documents.Commands(path, text, "duoflowd") {
			seen++
			cmd, err := documents.Parse(command(), c)
			if err != nil {
				t.Errorf("%s: %s: %v", path, c.Text, err)
				continue
			}
			if c.Whole && path == filepath.Join("..", "..", "docs", "OPERATING.md") {
				shown[cmd.Name()] = true
			}
		}
	}
	if seen < 5 {
		t.Errorf("found only %d commands", seen)
	}
	for _, cmd := range command().Commands() {
		if !cmd.Hidden && !shown[cmd.Name()] {
			t.Errorf("docs/OPERATING.md does not show %s", cmd.CommandPath())
		}
	}
	wrong := documents.Commands("x.md", "`duoflowd --configuration x`", "duoflowd")
	if _, err := documents.Parse(command(), wrong[0]); err == nil {
		t.Error("a flag that is not there was taken")
	}
}
