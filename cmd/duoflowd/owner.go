package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ownerFor is who a daemon's files belong to: to whom its data directory does, or the nearest one above that exists.
func ownerFor(dir string) (fs.FileInfo, error) {
	for {
		info, err := os.Stat(dir)
		if err == nil {
			return info, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return nil, fmt.Errorf("look at data directory: %w", err)
		}
		dir = filepath.Dir(dir)
	}
}

// giveTo gives a directory and the files in it away: root may have made what the daemon's user has to write.
func giveTo(like fs.FileInfo, dir string) error {
	owner, known := like.Sys().(*syscall.Stat_t)
	if !known || os.Geteuid() != 0 {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(owner.Uid), int(owner.Gid)))
	})
	if err != nil {
		return fmt.Errorf("give data directory to the daemon's user: %w", err)
	}
	return nil
}
