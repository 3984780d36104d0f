// Package figures is where a benchmark's figures go, and how busy the machine was that they come from: files that are replaced
// as a whole, and the marked block of a README.
package figures

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Replace writes a file as a whole: whoever reads it finds the old one or the new one.
func Replace(path string, text []byte) error {
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(next, text, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Block is a part of a file that lies between two lines and is never edited by hand. Both end their line.
type Block struct{ Begin, End string }

// Put returns the file's text with other figures in the block. An error if the two marks are not there.
func (b Block) Put(text []byte, figures string) ([]byte, error) {
	before, rest, begins := bytes.Cut(text, []byte(b.Begin))
	_, after, ends := bytes.Cut(rest, []byte(b.End))
	if !begins || !ends {
		return nil, errors.New("the block's two marks are not there")
	}
	return bytes.Join([][]byte{before, []byte(b.Begin), []byte(figures), []byte(b.End), after}, nil), nil
}

// Rewrite puts the figures into the block of a file.
func (b Block) Rewrite(path, figures string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	next, err := b.Put(text, figures)
	if err != nil {
		return fmt.Errorf("write figures into %s: %w", path, err)
	}
	return Replace(path, next)
}

// Load is the machine's load average over one minute.
func Load() (float64, error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, fmt.Errorf("read load average: %w", err)
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, fmt.Errorf("read load average: %w", err)
	}
	return load, nil
}
