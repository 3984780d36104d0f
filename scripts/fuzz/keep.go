package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// mostBytes is the largest input that is kept: corpora are read by people and by every run of the tests.
	mostBytes = 4096
	// mostInputs bounds what is looked at, the smallest first.
	mostInputs = 400
)

// input is one file of a corpus, in Go's format.
type input struct {
	name    string
	text    []byte
	reaches []string // blocks of code
}

// keep makes the corpus in the repository anew.
func (b *bench) keep(ctx context.Context, f Fuzzer) (Run, error) {
	program, err := b.build(ctx, f.Dir, covered)
	if err != nil {
		return Run{}, err
	}
	in, err := cache(ctx)
	if err != nil {
		return Run{}, err
	}
	all, err := inputs(f.corpus(), f.cached(in))
	if err != nil {
		return Run{}, err
	}
	total := len(all)
	all = all[:min(total, mostInputs)]
	restore, err := replace(f.corpus(), nil)
	if err != nil {
		return Run{}, err
	}
	var sound []input
	end := time.Now().Add(time.Duration(b.o.seconds * float64(time.Second)))
	for _, in := range all {
		if len(sound) > 0 && time.Now().After(end) {
			break
		}
		err := b.reach(ctx, program, f, &in)
		if err != nil && !errors.Is(err, errTypes) {
			return Run{}, errors.Join(err, restore())
		}
		if err == nil {
			sound = append(sound, in)
		}
	}
	kept := fewest(sound)
	if len(kept) == 0 {
		return Run{Fuzzer: f, Total: int64(total)}, restore()
	}
	_, err = replace(f.corpus(), kept)
	return Run{Fuzzer: f, Total: int64(total), Kept: len(kept)}, err
}

// inputs reads those of some folders, the smallest first.
func inputs(dirs ...string) (all []input, err error) {
	seen := map[string]bool{}
	for _, dir := range dirs {
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read corpus: %w", err)
		}
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join(dir, file.Name()))
			if err != nil {
				return nil, fmt.Errorf("read corpus: %w", err)
			}
			if len(text) <= mostBytes && !seen[file.Name()] {
				seen[file.Name()] = true
				all = append(all, input{name: file.Name(), text: text})
			}
		}
	}
	slices.SortFunc(all, func(a, b input) int {
		return cmp.Or(cmp.Compare(len(a.text), len(b.text)), strings.Compare(a.name, b.name))
	})
	return all, nil
}

// replace makes a folder hold just these inputs; restore undoes it.
func replace(dir string, all []input) (restore func() error, err error) {
	before, err := inputs(dir)
	if err != nil {
		return nil, err
	}
	restore = func() error { _, err := replace(dir, before); return err }
	if err := os.RemoveAll(dir); err != nil {
		return restore, fmt.Errorf("replace corpus: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return restore, fmt.Errorf("replace corpus: %w", err)
	}
	for _, in := range all {
		if err := os.WriteFile(filepath.Join(dir, in.name), in.text, 0o644); err != nil {
			return restore, fmt.Errorf("replace corpus: %w", err)
		}
	}
	return restore, nil
}

// errTypes: the cache has the input from when the fuzzer took other values.
var errTypes = errors.New("values of other types")

// reach runs one input, alone in the corpus: one that cannot be read fails for all. It notes which blocks of the package it gets to.
func (b *bench) reach(ctx context.Context, program string, f Fuzzer, in *input) error {
	if _, err := replace(f.corpus(), []input{*in}); err != nil {
		return err
	}
	profile := filepath.Join(b.work, "profile")
	c := exec.CommandContext(ctx, program, "-test.run=^"+f.Name+"$/^"+in.name+"$", "-test.coverprofile="+profile)
	c.Dir = f.Dir
	out, err := c.CombinedOutput()
	if err != nil && (strings.Contains(string(out), "wrong number of values") || strings.Contains(string(out), "mismatched types")) {
		return errTypes
	}
	if err != nil {
		return fmt.Errorf("input %s: %w: %s", in.name, err, tail(string(out)))
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		return fmt.Errorf("read profile: %w", err)
	}
	in.reaches = reached(text)
	return nil
}

// reached are the blocks of a coverage profile that ran.
func reached(profile []byte) (blocks []string) {
	for lines := bufio.NewScanner(bytes.NewReader(profile)); lines.Scan(); {
		block, count, ok := strings.Cut(lines.Text(), " ")
		if ok && !strings.HasPrefix(block, "mode:") && !strings.HasSuffix(count, " 0") {
			blocks = append(blocks, block)
		}
	}
	return blocks
}

// fewest picks, greedily, inputs that reach all that any of them reaches. Of two that reach as much more it is the smaller; all must be
// sorted by size.
func fewest(all []input) (kept []input) {
	left := map[string]bool{}
	for _, in := range all {
		for _, block := range in.reaches {
			left[block] = true
		}
	}
	for len(left) > 0 {
		best, most := 0, 0
		for i, in := range all {
			more := 0
			for _, block := range in.reaches {
				if left[block] {
					more++
				}
			}
			if more > most {
				best, most = i, more
			}
		}
		for _, block := range all[best].reaches {
			delete(left, block)
		}
		kept = append(kept, all[best])
	}
	return kept
}
