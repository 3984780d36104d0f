package lint

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestHelpShowsEveryTarget has `make help` say all that the Makefile has a word on.
func TestHelpShowsEveryTarget(t *testing.T) {
	text, err := os.ReadFile("../../" + makefile)
	if err != nil {
		t.Fatal(err)
	}
	help := exec.CommandContext(t.Context(), "make", "--no-print-directory", "--directory", "../..", "help")
	shown, err := help.Output()
	if err != nil {
		t.Fatalf("make help: %v", err)
	}
	explained := regexp.MustCompile(`(?m)^([^\s:#]+):.*## `).FindAllStringSubmatch(string(text), -1)
	if len(explained) < 20 {
		t.Fatalf("only %d targets read", len(explained))
	}
	for _, target := range explained {
		if !strings.Contains(string(shown), "  make "+target[1]+" ") {
			t.Errorf("make help does not show %s", target[1])
		}
	}
}
