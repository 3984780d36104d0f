package main

import (
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// TestARunCanFail: every broken promise makes the run unsound.
func TestARunCanFail(t *testing.T) {
	good := report{Events: []event{{Fault: "kill-host", Epoch: 1, After: 2, Gap: 50 * time.Millisecond}}}
	if !good.Sound() || good.failovers() != 1 {
		t.Fatalf("a sound run: %+v", good)
	}
	for name, order := range map[string]commitorder.Verdict{"stale": {Stale: 1}, "shared": {Shared: 1}, "twice": {Twice: 1}} {
		bad := good
		bad.Order = order
		if bad.Sound() {
			t.Errorf("%s rows, and the run counts as sound", name)
		}
	}
	stuck := good
	stuck.Events = append([]event{{Fault: "isolate", Stuck: "nobody is active"}}, good.Events...)
	if stuck.Sound() {
		t.Error("the cluster did not recover, and the run counts as sound")
	}
	var out strings.Builder
	if err := good.table(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "kill-host  1  1") || !strings.Contains(out.String(), "1 moves of the job") {
		t.Errorf("table:\n%s", out.String())
	}
}

func TestParse(t *testing.T) {
	var errs strings.Builder
	o := &options{}
	_, err := o.program().Parse([]string{"-seed", "7", "-only", "kill-host,power-off"}, &errs)
	if err != nil || o.seed != 7 {
		t.Fatalf("options %+v, %v", o, err)
	}
	if some, err := o.chosen(); err != nil || len(some) != 2 {
		t.Errorf("chosen: %v, %v", some, err)
	}
	o.only = "earthquake"
	if _, err := o.chosen(); err == nil {
		t.Error("an unknown fault is accepted")
	}
	if code := run(t.Context(), []string{"-o", "xml"}, &errs, &errs); code != 2 {
		t.Errorf("exit code %d for a wrong flag, want 2", code)
	}
	o = &options{}
	if _, err := o.program().Parse(nil, &errs); err != nil || o.seed == 0 {
		t.Errorf("no seed was drawn: %+v, %v", o, err)
	}
}
