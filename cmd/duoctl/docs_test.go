package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/documents"
)

// documentTexts are the texts of the repository, by path.
func documentTexts(t *testing.T) map[string]string {
	t.Helper()
	texts, err := documents.Read(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestCommandsInTheDocumentsExist(t *testing.T) {
	seen, names := 0, map[string]bool{}
	for path, text := range documentTexts(t) {
		for _, c := range documents.Commands(path, text, "duoctl") {
			cmd, err := documents.Parse(newRoot(&app{}), c)
			if err != nil {
				t.Errorf("%s: %s: %v", path, c.Text, err)
				continue
			}
			if seen++; path == filepath.Join("..", "..", "docs", "OPERATING.md") {
				names[cmd.CommandPath()] = true
			}
		}
	}
	if seen < 60 {
		t.Errorf("found only %d commands", seen)
	}
	for _, cmd := range leaves(newRoot(&app{})) {
		if !names[cmd.CommandPath()] {
			t.Errorf("docs/OPERATING.md does not show %s", cmd.CommandPath())
		}
	}
}

func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.HasSubCommands() {
		return []*cobra.Command{cmd}
	}
	var all []*cobra.Command
	for _, child := range cmd.Commands() {
		if !child.Hidden { // what is made for programs is not an operator's
			all = append(all, leaves(child)...)
		}
	}
	return all
}

// TestMistakesInDocumentsAreSeen: what the test above is for.
func TestMistakesInDocumentsAreSeen(t *testing.T) {
	for text, good := range map[string]bool{
		`duoctl status -o json | jq -r '.jobs[]'`:        true,
		`duoctl pause --for 2h --reason "kernel # of b"`: true,
		`duoctl switchover --to b   # now`:               true,
		`duoctl --endpoint 10.0.0.1:7402 status`:         true,
		`duoctl tls revoke --authority tls olga.pem`:     true,
		`duoctl tls revoke --authority tls`:              false,
		`duoctl status now`:                              false,
		`duoctl reload`:                                  false,
		`duoctl status --job scheduler`:                  false,
		`duoctl explain --epoch N`:                       false,
		`duoctl pause --for`:                             false,
	} {
		found := documents.Commands("x.md", "```sh\n"+text+"\n```", "duoctl")
		if len(found) != 1 {
			t.Fatalf("%s: %v", text, found)
		}
		if _, err := documents.Parse(newRoot(&app{}), found[0]); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// runbook is where an alert's annotation sends people.
const runbook = "https://github.com/duoflow/duoflow/blob/main/docs/RUNBOOK.md#"

// TestEveryAlertHasItsSection in the runbook, which says what it has to and which the alert links to; there is none for an alert that does not exist.
func TestEveryAlertHasItsSection(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var alerts, sections []string
	for _, rule := range strings.Split(read("scripts/monitoring/alerts.yml"), "- alert: ")[1:] {
		name := strings.Fields(rule)[0]
		alerts = append(alerts, name)
		if want := "runbook_url: " + runbook + strings.ToLower(name) + "\n"; !strings.Contains(rule, want) {
			t.Errorf("%s lacks %s", name, want)
		}
	}
	for _, section := range regexp.MustCompile(`(?m)^#+ `).Split(read("docs/RUNBOOK.md"), -1)[1:] {
		name, body, _ := strings.Cut(section, "\n")
		if !strings.HasPrefix(name, "Duoflow") {
			continue
		}
		sections = append(sections, name)
		if got := regexp.MustCompile(`(?m)^- \*\*(.*?)\.\*\* \S`).FindAllStringSubmatch(body, -1); len(got) != 4 ||
			got[0][1] != "Means" || got[1][1] != "Look" || got[2][1] != "Do" || got[3][1] != "Can it wait" {
			t.Errorf("%s: its parts are %v", name, got)
		}
	}
	if len(alerts) == 0 || !slices.Equal(alerts, sections) {
		t.Errorf("alerts %v\nsections %v", alerts, sections)
	}
}
