// Package journal keeps what a writer was told is committed, in a file of its own that no part of duoflow knows of.
package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// Env is the variable with the folder of the journals, for the job; none are kept when it is empty.
const Env = "PROBE_JOURNAL"

// File is the journal of one writer under one epoch. A nil one keeps nothing.
type File struct {
	file *os.File
	pid  int
}

// Open makes or goes on with the journal of a writer; pid is the number that its rows have.
func Open(folder, node string, epoch int64, pid int) (*File, error) {
	path := filepath.Join(folder, fmt.Sprintf("%s_%d_%d", node, epoch, pid))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &File{file, pid}, nil
}

// PID is the number that the writer's rows have.
func (f *File) PID() int { return f.pid }

// Add notes that a row was acknowledged. It is one write, so that it survives the writer's end by SIGKILL.
func (f *File) Add(seq int64) error {
	if f == nil {
		return nil
	}
	if _, err := f.file.WriteString(strconv.FormatInt(seq, 10) + "\n"); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Close ends it.
func (f *File) Close() error {
	if f == nil {
		return nil
	}
	return f.file.Close()
}

// Read calls each with every row that the journals of a folder have.
func Read(folder string, each func(commitorder.Row)) error {
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return readFile(path, each)
	})
	if err != nil {
		return fmt.Errorf("read journals: %w", err)
	}
	return nil
}

func readFile(path string, each func(commitorder.Row)) error {
	parts := strings.Split(filepath.Base(path), "_")
	if len(parts) != 3 {
		return fmt.Errorf("%s: no journal's name", path)
	}
	epoch, err := strconv.ParseUint(parts[1], 10, 64)
	pid, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		seq, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		each(commitorder.Row{Node: parts[0], Epoch: epoch, PID: pid, Seq: seq})
	}
	return lines.Err()
}
