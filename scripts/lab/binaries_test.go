package lab_test

import (
	"os"
	"testing"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestBuild: a program stands where Build says, and one that does not exist is an error.
func TestBuild(t *testing.T) {
	l := &lab.Lab{Dir: t.TempDir()}
	path, err := l.Build(t.Context(), "./scripts/probe/writer")
	must(t, err)
	if file, err := os.Stat(path); err != nil || file.Mode()&0o111 == 0 {
		t.Errorf("%s is no program: %v, %v", path, file, err)
	}
	if path, err := l.Build(t.Context(), "./scripts/probe/reader"); err == nil {
		t.Errorf("built %s, which has no source", path)
	}
}
