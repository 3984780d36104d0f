package main

import (
	"io/fs"
	"os"
	"syscall"
)

// sameOwner gives a file to whom another one belongs.
func sameOwner(file *os.File, like fs.FileInfo) error {
	owner, known := like.Sys().(*syscall.Stat_t)
	if !known {
		return nil
	}
	return file.Chown(int(owner.Uid), int(owner.Gid))
}
