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
	a := &app{out: os.Stdout, err: os.Stderr, env: os.Getenv}
	if a.screen = newScreen(os.Stderr, os.Getenv); a.screen != nil {
		a.err = a.screen
	}
	os.Exit(run(ctx, os.Args[1:], a))
}

// newScreen is nil if nothing can be drawn: the file is no terminal, or one that can only write on. NO_COLOR: https://no-color.org
func newScreen(file *os.File, env func(string) string) *screen {
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil || env("TERM") == "dumb" || env("TERM") == "" {
		return nil
	}
	size := func() (columns, rows int) {
		if s, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil {
			return int(s.Col), int(s.Row)
		}
		return 0, 0
	}
	return &screen{w: file, size: size, color: env("NO_COLOR") == ""}
}

// app is one run of the program: everything it touches outside the network and the file system.
type app struct {
	out, err io.Writer
	env      func(string) string
	screen   *screen // err is a terminal, on which progress can be drawn; else nil
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
