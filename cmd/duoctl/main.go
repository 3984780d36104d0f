package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// version is set by the linker (-X main.version=...); without it the build information is told.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], &app{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, terminal: isTerminal(os.Stdin),
	})
	os.Exit(code)
}

// app is one run of the program: everything it touches outside the network and the file system.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	terminal bool // in is a terminal, so there is somebody to ask
	flags    globalFlags
	began    bool // the command line was understood; what fails later is not a usage error
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, a *app) int {
	root := newRoot(a)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !a.began {
		err = asUsage(err)
	}
	explain(a.err, err)
	return exitCode(err)
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
