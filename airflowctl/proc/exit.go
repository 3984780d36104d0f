package proc

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ExitStatus is how the main process of a life ended. The zero value is a clean exit.
type ExitStatus struct {
	// Code is the exit code, or -1 when a signal ended the process.
	Code int
	// Signal is the name of that signal, as "SIGKILL"; "" when the process exited by itself.
	Signal string
}

// String is for people: "exit 3" or "SIGKILL".
func (e ExitStatus) String() string {
	if e.Signal != "" {
		return e.Signal
	}
	return fmt.Sprintf("exit %d", e.Code)
}

func exitOf(status syscall.WaitStatus) ExitStatus {
	if !status.Signaled() {
		return ExitStatus{Code: status.ExitStatus()}
	}
	return exitBySignal(status.Signal())
}

func exitBySignal(sig syscall.Signal) ExitStatus {
	name := unix.SignalName(sig)
	if name == "" {
		name = fmt.Sprintf("SIG%d", int(sig)) // real-time signals have no name
	}
	return ExitStatus{Code: -1, Signal: name}
}
