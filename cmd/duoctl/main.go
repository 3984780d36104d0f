package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// version is set by the linker (-X main.version=...); without it package release asks the build information.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv, terminal: isTerminal(os.Stdin)}
	if isTerminal(os.Stdout) {
		a.screen = screenSize
	}
	os.Exit(run(ctx, os.Args[1:], a))
}

// app is one run of the program: everything it touches outside the network and the file system.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string
	terminal bool // in is a terminal, so there is somebody to ask
	// screen is the size of the terminal that out is; nil when it is none.
	screen func() (width, height int)
	flags  globalFlags
	began  bool // the command line was understood; what fails later is not a usage error
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
	complain(a.err, err)
	return exitCode(err)
}

// screenSize is that of the terminal standard output is; 80 by 24 when it does not say.
func screenSize() (width, height int) {
	size, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 || size.Row == 0 {
		return 80, 24
	}
	return int(size.Col), int(size.Row)
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
