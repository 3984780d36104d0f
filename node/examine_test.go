package node

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore"
)

func TestFindings(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	kernel := func(state int, err error) func(*unix.Timex) (int, error) {
		return func(*unix.Timex) (int, error) { return state, err }
	}
	for want, test := range map[string]struct {
		got *duoflowv1.Finding
		ok  bool
	}{
		"another 30 days":             {certificateFinding(now.Add(30*24*time.Hour), now), true},
		"another 13 days":             {certificateFinding(now.Add(13*24*time.Hour), now), false},
		"ended at 2026-11-30T23:00":   {certificateFinding(now.Add(-time.Hour), now), false},
		"p99 of a durable write: 2ms": {diskFinding(raftstore.Status{FsyncP99: 2 * time.Millisecond}), true},
		"300ms, more than 200ms":      {diskFinding(raftstore.Status{FsyncP99: 300 * time.Millisecond}), false},
		"it forgot":                   {diskFinding(raftstore.Status{Doubt: "it forgot"}), false},
		"calls it synchronised":       {clockFinding(kernel(unix.TIME_OK, nil)), true},
		"calls it not synchronised":   {clockFinding(kernel(unix.TIME_ERROR, nil)), true},
		"does not say":                {clockFinding(kernel(0, errors.New("not permitted"))), true},
	} {
		if !strings.Contains(test.got.GetDetail(), want) || test.got.GetOk() != test.ok || test.ok == (test.got.GetMend() != "") {
			t.Errorf("%s: %v", want, test.got)
		}
	}
}
