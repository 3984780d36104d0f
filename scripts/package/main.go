// Command package builds what a release is: static programs for amd64 and arm64 in archives and Debian packages, with manual pages and
// completion made from the programs themselves, and the checksums of all. The same commit gives the same bytes wherever it is built.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/scripts/program"
)

const usage = `usage: bin/package [flags]

Builds a release from the checkout that it is called in. scripts/setup release installs what it needs.

`

func main() { os.Exit(program.Main(run)) }

// job is one run of this program.
type job struct {
	root string // of the checkout
	out  string // where the release goes
	work string // what is made on the way; removed in the end
	// scratch, unless "", is where the Go tool keeps what it compiled, so that a second build cannot find the first one's.
	scratch    string
	archs      []string
	programs   []string
	stamp      stamp
	thirdParty notices
}

func run(ctx context.Context, args []string, _, stderr io.Writer) int {
	set := program.NewFlags("package", usage, stderr)
	j := job{root: "."}
	set.StringVar(&j.out, "out", "dist", "the folder that the release goes to; what is in it is removed")
	set.StringVar(&j.scratch, "gocache", "", "build cache of its own, for builds that shall share nothing with others")
	archs := set.String("arch", strings.Join(architectures, ","), "for which processors")
	programs := set.String("programs", strings.Join(programNames(), ","), "which programs, and packages with them")
	if err := set.Parse(args); err != nil {
		return 2
	}
	j.archs, j.programs = strings.Split(*archs, ","), strings.Split(*programs, ",")
	if err := j.check(set.Args()); err != nil {
		fmt.Fprintln(stderr, "package:", err)
		return 2
	}
	if err := j.release(ctx, stderr); err != nil {
		fmt.Fprintln(stderr, "package:", err)
		return 1
	}
	return 0
}

func (j *job) check(rest []string) error {
	var problems []error
	if len(rest) > 0 {
		problems = append(problems, fmt.Errorf("%q is no flag", rest[0]))
	}
	for _, a := range j.archs {
		if !slices.Contains(architectures, a) {
			problems = append(problems, fmt.Errorf("-arch %q: want some of %s", a, strings.Join(architectures, ",")))
		}
	}
	for _, p := range j.programs {
		if !slices.Contains(programNames(), p) {
			problems = append(problems, fmt.Errorf("-programs %q: want some of %s", p, strings.Join(programNames(), ",")))
		}
	}
	for _, p := range j.wanted() {
		if !p.builtFor(runtime.GOARCH) { // its page is written by itself
			problems = append(problems, fmt.Errorf("%s is built on %s only: leave it out with -programs, or build there", p.name, p.only))
		}
	}
	return errors.Join(append(problems, replaceable(j.out))...)
}

// replaceable refuses a folder with anything in it that a release would not have written.
func replaceable(out string) error {
	entries, err := os.ReadDir(out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); name != sumsName && !strings.HasSuffix(name, ".deb") && !strings.HasSuffix(name, ".tar.gz") {
			return fmt.Errorf("-out %q: it would be emptied, and has %s, which is no part of a release: want another folder", out, name)
		}
	}
	return nil
}

// release makes everything in a folder for what passes, and puts it in its place when it is whole.
func (j *job) release(ctx context.Context, progress io.Writer) (err error) {
	if j.stamp, err = readStamp(ctx, j.root); err != nil {
		return err
	}
	if j.work, err = os.MkdirTemp("", "duoflow-package-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(j.work)) }()
	made := filepath.Join(j.work, "dist")
	if err := os.MkdirAll(made, 0o755); err != nil {
		return err
	}
	for _, what := range []struct {
		saying string
		do     func(context.Context, string) error
	}{
		{"collecting licenses", j.collectNotices},
		{"building " + strings.Join(j.programs, ", ") + " " + j.stamp.linked() + " for " + strings.Join(j.archs, ", "), j.buildAll},
		{"writing manual pages and completion", j.document},
		{"packing", j.pack},
		{"checksums", func(context.Context, string) error { return checksums(made) }},
	} {
		fmt.Fprintln(progress, "package:", what.saying)
		if err := what.do(ctx, made); err != nil {
			return err
		}
	}
	return replace(made, j.out)
}

// replace puts the folder made in the place of out, file by file: they may be on different file systems.
func replace(made, out string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	return os.CopyFS(out, os.DirFS(made))
}

// command runs a program and returns what it writes; its complaints are the error's.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, complaints.String(), out.String())
	}
	return out.String(), nil
}
