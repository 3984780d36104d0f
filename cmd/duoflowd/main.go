// Command duoflowd is one node of a duoflow cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/duoflow/duoflow/airflowctl/proc"
)

func main() {
	proc.MaybeInit() // returns, unless this process is the init of a job's process tree
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
