package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/schedule"
)

// TestCheck: the report of --check has every problem, starts nothing, and ends with the code of a wrong command line.
func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte("cluster: x\nnode: a\nlisten: {pear: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--check"}, {"--check", "-o", "json"}, {}} {
		var out bytes.Buffer
		c := command()
		c.SetOut(&out)
		c.SetArgs(append(args, "--config", path))
		if err := c.Execute(); err == nil || exitCode(err) != exitUsage {
			t.Errorf("%v: %v, exit code %d", args, err, exitCode(err))
		}
		if len(args) < 3 {
			continue
		}
		var answer struct {
			OK       bool
			Problems []string
		}
		if err := json.Unmarshal(out.Bytes(), &answer); err != nil || answer.OK || len(answer.Problems) < 5 {
			t.Errorf("%v: %s", args, out.String())
		}
	}
}

// TestScheduledExit: the program ends as the command did, without a word of its own.
func TestScheduledExit(t *testing.T) {
	if err := scheduledExit(&schedule.ExitError{Code: 7}); exitCode(err) != 7 || !errors.Is(err, errQuiet) {
		t.Errorf("exit code 7 becomes %v, %d", err, exitCode(err))
	}
	if err := scheduledExit(schedule.ErrFenced); exitCode(err) != exitFailed || errors.Is(err, errQuiet) {
		t.Errorf("a fenced epoch becomes %v, %d", err, exitCode(err))
	}
	if err := scheduledExit(nil); err != nil {
		t.Error(err)
	}
}

// TestRunScheduledIsNoCommandForPeople: it is hidden, and refuses to run without a life around it.
func TestRunScheduledIsNoCommandForPeople(t *testing.T) {
	for _, sub := range command().Commands() {
		if sub.Name() == runScheduled && !sub.Hidden {
			t.Error("it is shown")
		}
	}
	for _, args := range [][]string{{"--schedule", "@daily", "--", "true"}, {"--schedule", "never", "--", "true"}, {"--schedule", "@daily"}} {
		c := command()
		c.SetArgs(append([]string{runScheduled}, args...))
		if err := c.Execute(); err == nil || exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
}
