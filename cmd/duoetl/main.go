package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/etl"
)

// version is set by the linker (-X main.version=...).
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], &app{out: os.Stdout, err: os.Stderr, env: os.Getenv, terminal: isTerminal(os.Stderr)})
	os.Exit(code)
}

// app is one run of the program: everything it touches outside the network and the file system.
type app struct {
	out, err io.Writer
	env      func(string) string
	terminal bool // err is one, so progress can be drawn
	flags    globalFlags
	began    bool // the command line was understood; what fails later is not a usage error
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return etl.ExitOK
	}
	fmt.Fprintf(grid.Printable{W: a.err}, "duoetl: %v\n", err)
	var u usageError
	if !a.began || errors.As(err, &u) {
		fmt.Fprintln(a.err, "  see duoetl --help")
		return etl.ExitUsage
	}
	return etl.ExitCode(err)
}

// usageError is what is wrong with the command line.
type usageError struct{ what string }

func (u usageError) Error() string { return u.what }

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
