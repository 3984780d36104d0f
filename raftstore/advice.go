package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// advices say what to do about an error of the file system.
var advices = []struct {
	of   syscall.Errno
	text string
}{
	{syscall.ENOSPC, "the file system is full: free space on it; the node comes back by itself when it is started again"},
	{syscall.EDQUOT, "the quota is used up: free space; the node comes back by itself when it is started again"},
	{syscall.EROFS, "the file system is read-only: see the kernel's log for the reason, mount it writable and start the node again"},
	{syscall.EACCES, "the directory and its files must belong to the user that the node runs as"},
	{syscall.EIO, "the disk fails: see the kernel's log; with another disk and an empty data directory the node catches up from the others"},
}

// adviceElse is for a write that failed for any other reason.
const adviceElse = "start the node again; if it fails again, move the data directory away: the node then starts empty and " +
	"catches up from the others"

// adviceDamaged is for a file that is not what was written.
const adviceDamaged = "move the data directory away: the node then starts empty and catches up before it votes"

// advise adds to an error what the operator can do about it. bbolt keeps only the text of some errors.
func advise(err error, otherwise string) error {
	for _, a := range advices {
		if errors.Is(err, a.of) || strings.Contains(err.Error(), a.of.Error()) {
			otherwise = a.text
		}
	}
	if otherwise == "" {
		return err
	}
	return fmt.Errorf("%w; %s", err, otherwise)
}
