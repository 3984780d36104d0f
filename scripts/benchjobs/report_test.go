package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func TestQuantiles(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i)/1000)
	}
	for _, tt := range []struct {
		of   []float64
		want quantiles
	}{
		{nil, quantiles{}},
		{[]float64{0.25}, quantiles{250 * time.Millisecond, 250 * time.Millisecond, 250 * time.Millisecond, 1}},
		{[]float64{3, 1}, quantiles{time.Second, 3 * time.Second, 3 * time.Second, 2}},
		{hundred, quantiles{50 * time.Millisecond, 99 * time.Millisecond, 100 * time.Millisecond, 100}},
	} {
		if got := quantilesOf(tt.of); got != tt.want {
			t.Errorf("%d times: %+v, want %+v", len(tt.of), got, tt.want)
		}
	}
}

// TestActive counts only what its holder says, of the present epoch, in a view that is more than one node's.
func TestActive(t *testing.T) {
	job := func(holder, state string, epoch uint64) *duoflowv1.JobStatus {
		return &duoflowv1.JobStatus{Holder: holder, Epoch: 2, Nodes: []*duoflowv1.JobOnNode{
			{Node: holder, State: state, Epoch: epoch}, {Node: "z", State: "active", Epoch: 2},
		}}
	}
	status := &duoflowv1.StatusResponse{View: &duoflowv1.View{Authoritative: true}, Jobs: []*duoflowv1.JobStatus{
		job("a", "active", 2), job("a", "active", 2), job("b", "active", 2), job("b", "starting", 2), job("b", "active", 1),
	}}
	if on := active(status); on["a"] != 2 || on["b"] != 1 || on["z"] != 0 {
		t.Errorf("active: %v, want two on a and one on b", on)
	}
	status.View.Authoritative = false
	if on := active(status); len(on) > 0 {
		t.Errorf("in a local view: %v", on)
	}
}

func TestReadUsage(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("stat", "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 8 9 20 0 5\n")
	write("status", "Name:\ta) b\nVmRSS:\t   30720 kB\nThreads:\t2\n")
	got, err := readUsage(dir)
	if want := (spent{cpu: 2 * time.Second, resident: 30}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, file := range []string{"stat", "status"} {
		before, _ := os.ReadFile(filepath.Join(dir, file))
		write(file, "nothing to see\n")
		if got, err := readUsage(dir); err == nil {
			t.Errorf("%s is nonsense: got %+v", file, got)
		}
		write(file, string(before))
	}
}

func TestTable(t *testing.T) {
	r := Report{Jobs: 4, First: map[string]int{"a": 4}, Daemons: []Daemon{{"a", 1.5, 30}}, Kills: map[string][]float64{"a": {0.1, 0.2}, "b": {0.3}}}
	var out strings.Builder
	if err := r.table(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"4 jobs", "map[a:4]", "both", "300ms"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"-o xml", "-for 0s", "-jobs 1", "-kills -1", "what", "-nonsense"} {
		var stderr strings.Builder
		if code := run(t.Context(), strings.Fields(args), &strings.Builder{}, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%s: exit code %d, %q; want 2 and a reason", args, code, stderr.String())
		}
	}
}
