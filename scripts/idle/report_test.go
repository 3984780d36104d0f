package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// write makes a file of a folder that looks like /proc/PID.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// process writes what the kernel would say of a process named "a) b", with a thread for each ran of nanoseconds.
func process(t *testing.T, ticks string, ran map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "stat"), "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 "+ticks+" 8 9 20 0 5\n")
	write(t, filepath.Join(dir, "status"), "Name:\ta) b\nVmRSS:\t   30720 kB\nThreads:\t2\n")
	write(t, filepath.Join(dir, "smaps_rollup"), "Rss:  30720 kB\nPss:  15360 kB\n")
	for id, line := range ran {
		write(t, filepath.Join(dir, "task", id, "schedstat"), line+"\n")
		write(t, filepath.Join(dir, "task", id, "status"), "voluntary_ctxt_switches:\t"+strings.Fields(line)[2]+"\nnonvoluntary_ctxt_switches:\t1\n")
	}
	return dir
}

func TestFigures(t *testing.T) {
	before, err := readLook(process(t, "10 20", map[string]string{"7": "1000000000 5 100", "8": "9000000000 5 900"}))
	if err != nil {
		t.Fatal(err)
	}
	// Thread 8 has ended and taken its nine seconds along, thread 9 is new.
	after, err := readLook(process(t, "15 25", map[string]string{"7": "1050000000 5 300", "9": "50000000 5 200"}))
	if err != nil {
		t.Fatal(err)
	}
	after.at = before.at.Add(10 * time.Second)
	got := figures(watched{name: "x", own: true}, before, after)
	want := Figures{Name: "x", Own: true, CPU: 1, Ticks: 1, Wakeups: 40, Switches: 40, RSS: 30, PSS: 15}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestReadLookRefuses(t *testing.T) {
	for _, file := range []string{"stat", "status", "smaps_rollup", "task/7/schedstat", "task/7/status"} {
		dir := process(t, "1 2", map[string]string{"7": "1 2 3"})
		write(t, filepath.Join(dir, file), "nothing to see\n")
		if l, err := readLook(dir); err == nil {
			t.Errorf("%s is nonsense: got %+v", file, l)
		}
	}
}

func TestAbove(t *testing.T) {
	r := Report{Processes: []Figures{
		{Name: "low", Own: true, CPU: 0.9, RSS: 29}, {Name: "high", Own: true, CPU: 1.1, RSS: 31}, {Name: "peer", CPU: 9, RSS: 99},
	}}
	for _, tt := range []struct {
		cpu, rss float64
		want     []string
	}{
		{0, 0, nil}, {2, 40, nil},
		{1, 0, []string{"high uses 1.10 % of a core, more than 1.00 %"}},
		{1, 30, []string{"high uses 1.10 % of a core, more than 1.00 %", "high holds 31.0 MB, more than 30.0 MB"}},
	} {
		if got := r.above(tt.cpu, tt.rss); !slices.Equal(got, tt.want) {
			t.Errorf("limits %v and %v: %q, want %q", tt.cpu, tt.rss, got, tt.want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"-o xml", "-for 0s", "-max-cpu -1", "-settle -1s", "what", "-nonsense"} {
		var stderr strings.Builder
		if code := run(t.Context(), strings.Fields(args), &strings.Builder{}, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d, %q; want 2 and a reason", args, code, stderr.String())
		}
	}
	if code := run(t.Context(), []string{"-h"}, &strings.Builder{}, &strings.Builder{}); code != 0 {
		t.Errorf("-h: exit code %d", code)
	}
}
