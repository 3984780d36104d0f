// Package pgtest runs the tests of a package around one throwaway Postgres that they share.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
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
