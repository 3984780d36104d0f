package main

import (
	"io/fs"
	"os"
	"syscall"
)

// sameOwner gives a file to the user and the group that another one belongs to.
func sameOwner(file *os.File, like fs.FileInfo) error {
	owner, known := like.Sys().(*syscall.Stat_t)
	if !known {
		return nil
	}
	return file.Chown(int(owner.Uid), int(owner.Gid))
}
