// Command duoflowd is one node of a duoflow cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/duoflow/duoflow/airflowctl/proc"
)

// gcPercent has garbage collected at half of Go's usual growth: a daemon with 5 MB of live memory makes so little garbage that
// this costs nothing that can be measured, and it holds a megabyte less.
const gcPercent = 50

func main() {
	proc.MaybeInit() // returns, unless this process is the init of a job's process tree
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once; the kernel takes the jobs with it
	}()
	if err := command().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errQuiet) {
			fmt.Fprintln(os.Stderr, "duoflowd:", err)
		}
		os.Exit(exitCode(err))
	}
}
