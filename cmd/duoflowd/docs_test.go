package main

import (
	"path/filepath"
	"testing"

	"github.com/duoflow/duoflow/cmd/documents"
)

func TestCommandsInTheDocumentsExist(t *testing.T) {
	texts, err := documents.Read(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for path, text := range texts {
		for _, c := range documents.Commands(path, text, "duoflowd") {
			seen++
			if _, err := documents.Parse(command(), c); err != nil {
				t.Errorf("%s: %s: %v", path, c.Text, err)
			}
		}
	}
	if seen < 5 {
		t.Errorf("found only %d commands", seen)
	}
	wrong := documents.Commands("x.md", "`duoflowd --configuration x`", "duoflowd")
	if _, err := documents.Parse(command(), wrong[0]); err == nil {
		t.Error("a flag that is not there was taken")
	}
}
