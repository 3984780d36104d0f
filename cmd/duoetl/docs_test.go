package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/cmd/documents"
	"github.com/duoflow/duoflow/etl"
)

// TestDocuments: what they show of duoetl, commands and configurations, is as this program has it.
func TestDocuments(t *testing.T) {
	texts, err := documents.Read(filepath.Join(shared.home, "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for path, text := range texts {
		for _, c := range documents.Commands(path, text, "duoetl") {
			seen++
			if _, err := documents.Parse(newRoot(&app{env: func(string) string { return "" }}), c); err != nil {
				t.Errorf("%s: %s: %v", path, c.Text, err)
			}
		}
		for _, b := range documents.Blocks(text, "yaml") {
			if !strings.HasPrefix(b, "pipeline:") {
				continue
			}
			if _, err := etl.ParseConfig([]byte(b), t.TempDir()); err != nil {
				t.Errorf("%s: %v\n%s", path, err, b)
			}
		}
	}
	if seen < 10 {
		t.Errorf("found only %d commands", seen)
	}
	wrong := documents.Commands("x.md", "`duoetl plan --years 3`", "duoetl")
	if _, err := documents.Parse(newRoot(&app{env: func(string) string { return "" }}), wrong[0]); err == nil {
		t.Error("a flag that is not there was taken")
	}
}
