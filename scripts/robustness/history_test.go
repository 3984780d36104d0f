package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/scripts/history"
	"github.com/duoflow/duoflow/scripts/probe"
)

// writeHistory is a sound one.
func writeHistory(t *testing.T, f *folder) {
	t.Helper()
	none := ""
	for i, epoch := range []uint64{1, 2, 4} {
		failed(t, f.writeJSON(historyName, history.Operation{
			Kind: history.Read, Job: probe.Job, Node: "t", Outcome: history.Done, Call: int64(10 * i), Return: int64(10*i + 5),
			Lease: &history.Lease{Epoch: epoch, Holder: []string{"a", "b", "a"}[i], Phase: "granted", Move: &none},
		}))
	}
}

func TestATamperedHistoryIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tamper func(lines []string) []string
		code   int
		want   string
	}{
		{"a stale read", func(lines []string) []string {
			return append(lines, strings.Replace(lines[0], `"call":0,"return":5`, `"call":90,"return":95`, 1))
		},
			1, "not linearizable"},
		{"two holders of an epoch", func(lines []string) []string { return append(lines, strings.Replace(lines[2], `"a"`, `"b"`, 1)) },
			1, "not linearizable"},
		{"not a history", func(lines []string) []string { return append(lines, "{}") }, 3, "read history"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := record(t)
			edit(t, path, historyName, tt.tamper)
			code, out, errs := check(t, path)
			if code != tt.code || !strings.Contains(out+errs, tt.want) {
				t.Errorf("exit code %d, want %d with %q: %s\n%s", code, tt.code, tt.want, errs, out)
			}
		})
	}
	path := record(t)
	failed(t, os.WriteFile(filepath.Join(path, historyName), nil, 0o600))
	if code, _, errs := check(t, path); code != 1 || !strings.Contains(errs, "no read was answered") {
		t.Errorf("an empty history: exit code %d: %s", code, errs)
	}
	failed(t, os.Remove(filepath.Join(path, historyName)))
	if code, _, errs := check(t, path); code != 3 {
		t.Errorf("without a history: exit code %d: %s", code, errs)
	}
}
