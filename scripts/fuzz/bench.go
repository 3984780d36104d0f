package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bench builds the packages' test programs, each once, and runs them.
type bench struct {
	work  string            // folder of the programs
	built map[string]string // program by package and kind
	o     options
}

// graceful is how long a fuzzer may take beyond its time to end: it first minimises what it was at.
const graceful = 2 * time.Minute

// build compiles the tests of a package. how is what tells one kind from the other: -fuzz or coverage.
func (b *bench) build(ctx context.Context, dir, how string) (string, error) {
	if program, ok := b.built[dir+how]; ok {
		return program, nil
	}
	program := filepath.Join(b.work, strings.ReplaceAll(strings.Trim(dir+how, "-"), "/", "-")+".test")
	args := []string{"test", "-c", "-o", program, how}
	if how == instrumented {
		args = append(args, "-vet=off")
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, "./"+dir)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the tests: %w: %s", err, out)
	}
	b.built[dir+how] = program
	return program, nil
}

const (
	instrumented = "-fuzz=."
	covered      = "-cover"
)

// cache is where Go keeps what is new and interesting, as `go test -fuzz` does.
func cache(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		return "", fmt.Errorf("ask for Go's cache: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "fuzz"), nil
}

// module is the import path of the root, under which Go's cache keeps a corpus.
const module = "github.com/duoflow/duoflow"

// cached is the folder of a fuzzer's inputs in Go's cache.
func (f Fuzzer) cached(cache string) string {
	return filepath.Join(cache, filepath.FromSlash(module), f.Dir, f.Name)
}

// run fuzzes for the time that was asked for.
func (b *bench) run(ctx context.Context, f Fuzzer) (Run, error) {
	program, err := b.build(ctx, f.Dir, instrumented)
	if err != nil {
		return Run{}, err
	}
	in, err := cache(ctx)
	if err != nil {
		return Run{}, err
	}
	limit := time.Duration(b.o.seconds * float64(time.Second))
	ctx, cancel := context.WithTimeout(ctx, limit+graceful)
	defer cancel()
	c := exec.CommandContext(ctx, program, "-test.run=^$", "-test.fuzz=^"+f.Name+"$", "-test.fuzztime="+limit.String(),
		"-test.parallel="+strconv.Itoa(b.o.parallel), "-test.fuzzcachedir="+filepath.Join(in, filepath.FromSlash(module), f.Dir), "-test.timeout=0")
	var out bytes.Buffer
	c.Dir, c.Stdout, c.Stderr = f.Dir, &out, &out
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	began := time.Now()
	err = c.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		return Run{}, fmt.Errorf("run: %w", err)
	}
	r := Run{Fuzzer: f, Took: time.Since(began).Seconds(), CPU: (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()}
	if used, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.Peak = used.Maxrss / 1024
	}
	r.read(out.String())
	if err != nil {
		r.Failure = tail(out.String())
	}
	return r, nil
}

// told is a line with which Go says how far it is.
var told = regexp.MustCompile(`execs: (\d+) \(.*new interesting: (\d+) \(total: (\d+)\)`)

// read takes the figures of the last such line.
func (r *Run) read(out string) {
	all := told.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return
	}
	last := all[len(all)-1]
	r.Executions, _ = strconv.ParseInt(last[1], 10, 64) // digits, and too many of them would take for ever
	r.New, _ = strconv.ParseInt(last[2], 10, 64)
	r.Total, _ = strconv.ParseInt(last[3], 10, 64)
}

// tail is the end of what a fuzzer said, without its progress.
func tail(out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "fuzz: elapsed") {
			lines = append(lines, line)
		}
	}
	const most = 60
	return strings.Join(lines[:min(len(lines), most)], "")
}
