package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// failure is what went wrong after the command line was understood.
type failure struct{ error }

// Unwrap is the reason.
func (f failure) Unwrap() error { return f.error }

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, out, log io.Writer) int {
	root := newRoot(out, log)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(log, "duosandbox:", err)
	if errors.As(err, new(failure)) {
		return exitFailed
	}
	fmt.Fprintln(log, "duosandbox --help says more")
	return exitUsage
}
