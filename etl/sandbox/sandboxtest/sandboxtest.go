// Package sandboxtest runs a sandbox beside a test.
package sandboxtest

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl/sandbox"
)

// Start runs a sandbox until the test and what it cleans up later are over, and returns it when it is ready. Without
// a Dir it has one of the test's. A sandbox that cannot be made or run fails the test.
func Start(t testing.TB, c sandbox.Config) *sandbox.Sandbox {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	box, err := sandbox.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- box.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("sandbox: %v", err)
		}
	})
	select {
	case <-box.Ready():
	case err := <-done:
		done <- err
		t.Fatalf("sandbox: %v", err)
	}
	return box
}

// Leftovers are the goroutines that the sandbox's libraries leave behind: one is started once a process, another sees
// within ten seconds that its pool is gone.
func Leftovers() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"),
	}
}
