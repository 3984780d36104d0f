package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl"
)

// TestCommandsOverAWholeLife calls every command that needs servers, as a process, in the order of a pipeline's life. No
// secret is in what any of them shows.
func TestCommandsOverAWholeLife(t *testing.T) {
	s := theStage(t)
	life := fresh("life")
	s.configure(life)
	line := filepath.Join(t.TempDir(), "line")
	t.Setenv(statusVariable, line)
	call := func(want int, args ...string) string {
		t.Helper()
		c := s.command(life, 1, args...)
		out, err := c.CombinedOutput()
		if c.ProcessState == nil || c.ProcessState.ExitCode() != want {
			t.Fatalf("duoetl %s: %v, want code %d\n%s", strings.Join(args, " "), err, want, out)
		}
		for _, secret := range []string{"very-secret-key", s.server.Superuser()} {
			if strings.Contains(string(out), secret) {
				t.Errorf("duoetl %s shows a secret:\n%s", strings.Join(args, " "), out)
			}
		}
		return string(out)
	}
	holds := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("lacks %q:\n%s", part, text)
			}
		}
	}
	holds(call(etl.ExitOK, "init", "--show"), "CREATE TABLE IF NOT EXISTS duoflow.etl_chunk")
	holds(call(etl.ExitOK, "plan"), "2 of 2 chunks to do", "SYNTHETIC", "not loaded")
	holds(call(etl.ExitFailed, "step", "load", "--chunk", "2018"), "the step before is not done")
	holds(call(etl.ExitPartial, "step", "extract", "--chunk", "2018", "--look"), "not done yet: extract of 2018")
	holds(call(etl.ExitOK, "step", "extract", "--chunk", "2018"), "extract")
	call(etl.ExitOK, "step", "extract", "--chunk", "2018", "--look")
	holds(call(etl.ExitPartial, "step", "copy", "--chunk", "2018", "--look"), "not done yet: copy of 2018")
	holds(call(etl.ExitQuality, "verify", "--chunk", "2018"), "is not loaded")
	text := call(etl.ExitOK, "run")
	holds(text, "2 done, 0 up to date, 0 failed", `{"progress":{"elapsed":`)
	said, err := os.ReadFile(line)
	if err != nil {
		t.Fatal(err)
	}
	holds(string(said), "2 chunks done, ", " rows, ", "SYNTHETIC")
	call(etl.ExitOK, "step", "publish", "--chunk", "2018", "--look")
	call(etl.ExitOK, "verify", "--chunk", "2018")
	holds(call(etl.ExitOK, "run"), "nothing new: 2 chunks up to date")
	holds(call(etl.ExitOK, "run", "--force", "--chunk", "2018"), "1 done")
	holds(call(etl.ExitOK, "backfill", "--from", "2017", "--to", "2017"), "nothing new: 1 chunk up")

	var status etl.Status
	if err := json.Unmarshal([]byte(call(etl.ExitOK, "status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Chunks) != 2 || !status.Synthetic || !status.Chunks[1].Loaded || status.Chunks[1].Epoch != 1 || status.Chunks[1].Node != "a" {
		t.Errorf("status: %+v", status)
	}
	holds(call(etl.ExitOK, "status"), "publish", "SYNTHETIC")
	holds(call(etl.ExitOK, "quarantine"), "Rules")
	holds(call(etl.ExitOK, "doctor"), "duckdb", "job "+life+" at epoch 1")
	holds(call(etl.ExitOK, "gc", "--age", "1h"), "0 uploads dropped")
	holds(call(etl.ExitOK, "verify"), "the tables hold what was loaded")
	s.exec("UPDATE " + life + ".day SET strikes = strikes + 1 WHERE day = '2018-07-01'")
	holds(call(etl.ExitQuality, "verify"), "2018")
	holds(call(etl.ExitOK, "reset", "--chunk", "2018", "--yes"), "forgotten")
	holds(call(etl.ExitOK, "resume"), "1 done, 1 up to date")
	holds(call(etl.ExitOK, "verify"), "the tables hold what was loaded")

	s.exec("UPDATE duoflow.fence SET epoch = 2 WHERE job = $1", life)
	holds(call(etl.ExitFenced, "run"), "another epoch has taken over")
}
