package main

import (
	"errors"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/duoflow/duoflow/cmd/documents"
	"github.com/duoflow/duoflow/node"
)

// host has the files that a configuration of a node names.
type host struct{ dir, user string }

func newHost(t *testing.T) host {
	t.Helper()
	h := host{dir: filepath.Join(t.TempDir(), "tls")}
	console{}.run(t, "tls", "init", "--out", h.dir, "--node", "a=10.0.0.1", "--node", "b=10.0.0.2", "--node", "t=10.0.0.3", "--operator", "you").want(t, exitOK)
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	h.user = current.Username
	if err := os.WriteFile(filepath.Join(h.dir, "password"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

// settle puts what this host has in the place of what a document's host has: folders, files and users. All else stays.
func (h host) settle(config map[string]any) {
	put := func(in any, key, value string) {
		if m, ok := in.(map[string]any); ok && m[key] != nil {
			m[key] = value
		}
	}
	name, _ := config["node"].(string)
	put(config, "data_dir", filepath.Join(h.dir, "data"))
	put(config["tls"], "ca", "ca.pem")
	put(config["tls"], "cert", name+".pem")
	put(config["tls"], "key", name+".key")
	put(config["gossip"], "keyring", "gossip.key")
	jobs, _ := config["jobs"].(map[string]any)
	for _, job := range jobs {
		put(job, "user", h.user)
		if m, ok := job.(map[string]any); ok {
			put(m["broker"], "password_file", "password")
			put(m["broker"], "ca", "ca.pem")
		}
	}
}

// over lays a part of a configuration over a whole one.
func over(whole, part map[string]any) map[string]any {
	out := maps.Clone(whole)
	for key, value := range part {
		below, isMap := value.(map[string]any)
		if under, both := out[key].(map[string]any); isMap && both {
			out[key] = over(under, below)
		} else {
			out[key] = value
		}
	}
	return out
}

// isJobs: a block that shows what stands below jobs.
func isJobs(m map[string]any) bool {
	for _, value := range m {
		if job, ok := value.(map[string]any); !ok || job["kind"] == nil {
			return false
		}
	}
	return true
}

// accept says what is wrong with a block of YAML: the configuration of a node, a part of one, or the contexts of duoctl. Those of other
// programs are theirs.
func (h host) accept(text string, whole map[string]any) error {
	var m map[string]any
	if err := yaml.Unmarshal([]byte(dedent(text)), &m); err != nil {
		return err
	}
	switch {
	case m["scrape_configs"] != nil || m["pipeline"] != nil: // Prometheus's; duoetl's, which cmd/duoetl looks at
		return nil
	case m["contexts"] != nil:
		_, err := pickContext("contexts.yaml", []byte(text), "")
		return err
	case isJobs(m):
		m = map[string]any{"jobs": m}
	}
	if m["cluster"] == nil {
		m = over(whole, m)
	}
	h.settle(m)
	raw, err := yaml.Marshal(m)
	if err != nil {
		return err
	}
	_, err = node.ParseConfig(raw, h.dir)
	return err
}

// dedent takes away what all lines begin with.
func dedent(text string) string {
	lines := strings.Split(text, "\n")
	indent := len(lines[0]) - len(strings.TrimLeft(lines[0], " "))
	for i, line := range lines {
		lines[i] = line[min(indent, len(line)-len(strings.TrimLeft(line, " "))):]
	}
	return strings.Join(lines, "\n")
}

// wholeOf is the first whole configuration of a document, which parts are parts of.
func wholeOf(t *testing.T, text string) map[string]any {
	t.Helper()
	for _, b := range documents.Blocks(text, "yaml") {
		var m map[string]any
		if err := yaml.Unmarshal([]byte(b), &m); err == nil && m["cluster"] != nil {
			return m
		}
	}
	t.Fatal("README.md shows no whole configuration")
	return nil
}

// TestConfigurationsInTheDocumentsAreSound, as a daemon finds them that is started with them on a host that has the files.
func TestConfigurationsInTheDocumentsAreSound(t *testing.T) {
	h, texts, seen := newHost(t), documentTexts(t), 0
	readme := texts[filepath.Join("..", "..", "README.md")]
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		if filepath.Ext(path) != ".md" {
			continue
		}
		for _, b := range documents.Blocks(texts[path], "yaml", "yml") {
			seen++
			if err := h.accept(b, wholeOf(t, readme)); err != nil {
				t.Errorf("%s: %v\n%s", path, err, b)
			}
		}
	}
	if seen < 8 {
		t.Errorf("found only %d configurations", seen)
	}
}

// TestMistakesInConfigurationsAreSeen: what the test above is for.
func TestMistakesInConfigurationsAreSeen(t *testing.T) {
	h := newHost(t)
	whole := wholeOf(t, documentTexts(t)[filepath.Join("..", "..", "README.md")])
	for text, good := range map[string]bool{
		"detection: wan\n":                      true,
		"detection: slow\n":                     false,
		"detections: wan\n":                     false,
		"jobs: {scheduler: {warm: false}}\n":    true,
		"jobs: {scheduler: {worm: false}}\n":    false,
		"jobs: {scheduler: {kind: command}}\n":  false,
		"jobs: {scheduler: {user: somebody}}\n": true,
		"  x:\n    kind: command\n    command: [/bin/x]\n    fence: {dsn: \"postgres://f@w/x\", group: x}\n": true,
		"  x:\n    kind: command\n    command: [/bin/x]\n":                                                   false,
		"cluster: prod\nnode: a\n":                false,
		"contexts: {p: {endpoints: [\"h:1\"]}}\n": true,
		"contexts: {p: {endpoint: h}}\n":          false,
		"scrape_configs: []\n":                    true,
	} {
		err := h.accept(text, whole)
		if (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
		var problems *node.Problems
		if errors.As(err, &problems) && len(problems.List) == 0 {
			t.Errorf("%s: refused for nothing", text)
		}
	}
}
