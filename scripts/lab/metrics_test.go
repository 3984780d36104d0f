package lab_test

import (
	"strings"
	"testing"

	"github.com/duoflow/duoflow/scripts/lab"
)

func TestParseMetrics(t *testing.T) {
	got, err := lab.ParseMetrics(strings.NewReader("# HELP x\ngo_goroutines 77\ngo_memstats_next_gc_bytes 4.194304e+06\n"))
	if err != nil || got["go_goroutines"] != 77 || got["go_memstats_next_gc_bytes"] != 1<<22 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := lab.ParseMetrics(strings.NewReader("x many\n")); err == nil {
		t.Error("a value that is no number was taken")
	}
}
