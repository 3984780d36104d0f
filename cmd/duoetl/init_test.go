package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/etl"
)

// TestInitBesideACluster: by hand, while a cluster runs the job, init may be run again, and what writes data may not.
func TestInitBesideACluster(t *testing.T) {
	s := theStage(t)
	pipeline := fresh("init")
	s.configure(pipeline)
	for _, one := range []struct {
		command string
		code    int
	}{{"init", etl.ExitOK}, {"run", etl.ExitFailed}} {
		c := s.command(pipeline, 1, one.command)
		c.Env = slices.DeleteFunc(c.Env, func(entry string) bool { return strings.HasPrefix(entry, "DUOFLOW_EPOCH=") })
		if out, err := c.CombinedOutput(); c.ProcessState == nil || c.ProcessState.ExitCode() != one.code {
			t.Errorf("%s: %v, want code %d\n%s", one.command, err, one.code, out)
		}
	}
}
