package airflowctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// Mark is how far a job's output was read: a file, and a place in it. The zero value is nowhere.
type Mark struct{ File, Offset uint64 }

// outputRead bounds how much of a job's output is read at once, in bytes.
const outputRead = 256 << 10

// Output returns lines of the job's output on this host, oldest first, and how far that is: what came after a mark, or when the
// file has changed since, and without a mark, the last n.
func (j *Job) Output(after Mark, n int) ([]string, Mark, error) {
	return readOutput(j.output.Path(), after, n)
}

// Output returns nothing: a shadow runs nothing.
func (s *Shadow) Output(Mark, int) ([]string, Mark, error) { return nil, Mark{}, nil }

func readOutput(path string, after Mark, n int) ([]string, Mark, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Mark{}, nil
	}
	if err != nil {
		return nil, Mark{}, fmt.Errorf("read output: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, Mark{}, fmt.Errorf("read output: %w", err)
	}
	now := Mark{File: info.Sys().(*syscall.Stat_t).Ino, Offset: uint64(info.Size())}
	from := after.Offset
	follows := after.File == now.File && from <= now.Offset && now.Offset-from <= outputRead
	if !follows {
		from = max(now.Offset, outputRead) - outputRead
	}
	text, err := io.ReadAll(io.NewSectionReader(file, int64(from), int64(now.Offset-from)))
	if err != nil {
		return nil, Mark{}, fmt.Errorf("read output: %w", err)
	}
	whole := bytes.LastIndexByte(text, '\n') + 1 // the last line may still be being written
	now.Offset = from + uint64(whole)
	lines := strings.Split(strings.TrimSuffix(string(text[:whole]), "\n"), "\n")
	switch {
	case whole == 0:
		return nil, now, nil
	case follows:
		return lines, now, nil
	case from > 0:
		lines = lines[1:] // its beginning is not here
	}
	return lines[max(0, len(lines)-n):], now, nil
}
