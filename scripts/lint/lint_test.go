package lint

import (
	"os"
	"testing"
)

// TestRepository runs every rule on the repository.
func TestRepository(t *testing.T) {
	repo, err := load("../..")
	if err != nil {
		t.Fatal(err)
	}
	// A rule that sees nothing finds nothing: make sure that the tree was really read.
	if len(repo.files) < 50 || len(repo.docs) == 0 {
		t.Fatalf("only %d Go files and %d documents read", len(repo.files), len(repo.docs))
	}
	for _, room := range []string{"node/lease", "node/control", "raftstore/replica", "raftstore", "gossip", "node", "node/web"} {
		if !repo.paths[room] {
			t.Errorf("room %s is gone", room)
		}
	}
	for name, rule := range map[string]func(*tree) []Finding{
		"imports": importRule, "names": nameRule, "pure": pureRule, "shape": shapeRule, "docs": docRule,
		"banned": bannedRule, "globals": globalRule, "spawn": spawnRule, "markdown": markdownRule,
	} {
		t.Run(name, func(t *testing.T) { report(t, rule(repo)) })
	}
	t.Run("steps", func(t *testing.T) {
		script, err := os.ReadFile("../test")
		if err != nil {
			t.Fatal(err)
		}
		report(t, stepsRule(repo, string(script)))
	})
	t.Run("maporder", func(t *testing.T) {
		var targets []string
		for _, dir := range purePackages {
			targets = append(targets, "./"+dir)
		}
		exports, err := exportData("../..", targets...)
		if err != nil {
			t.Fatal(err)
		}
		found, err := mapOrderRule(repo, exports)
		if err != nil {
			t.Fatal(err)
		}
		report(t, found)
	})
}

func report(t *testing.T, found []Finding) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}
