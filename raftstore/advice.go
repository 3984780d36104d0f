package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// advices say what to do about an error of the file system; the first that fits counts.
var advices = []struct {
	of   error
	text string
}{
	{syscall.ENOSPC, "the file system is full: free space on it; the node comes back by itself when it is started again"},
	{syscall.EDQUOT, "the quota is used up: free space; the node comes back by itself when it is started again"},
	{syscall.EROFS, "the file system is read-only: see the kernel's log for the reason, mount it writable and start the node again"},
	{fs.ErrPermission, "the directory and its files must belong to the user that the node runs as"},
	{syscall.EIO, "the disk fails: see the kernel's log; with another disk and an empty data directory the node catches up " +
		"from the others"},
}

// advise adds to an error what the operator can do about it.
func advise(err error) error {
	for _, a := range advices {
		if errors.Is(err, a.of) {
			return fmt.Errorf("%w; %s", err, a.text)
		}
	}
	return err
}
