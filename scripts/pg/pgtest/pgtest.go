// Package pgtest runs the tests of a package around one throwaway Postgres that they share.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/scripts/pg"
)

// stopWithin bounds the end of the server; after that it is killed.
const stopWithin = 20 * time.Second

// Main starts a server, sets it before the first test, runs the tests, ends the server, and returns the exit code for
// TestMain. That is 1 too when the server could not be started or ended, or when goroutines are left behind.
func Main(m *testing.M, server **pg.Server, options pg.Options) int {
	own, err := pg.Start(context.Background(), options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*server = own
	code := m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if err := errors.Join(own.Stop(ctx), goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// SmallDisk mounts a file system of so many MiB that belongs to the servers' user, until the test is over; it wants root. A
// server that uses it has to be ended before, so it is to be started after.
func SmallDisk(t testing.TB, size int) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "duoflow-small-") //nolint:usetesting // into the test's own the servers' user cannot go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) }) // still mounted: told below
	postgres, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("size=%dm,mode=0700,uid=%s,gid=%s", size, postgres.Uid, postgres.Gid)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}
