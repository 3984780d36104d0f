package failpoints

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// gofail is the module whose runtime the programs get.
const gofail = "go.etcd.io/gofail"

// signals teaches gofail's runtime two more things to do at a point: kill and freeze.
//
//go:embed signals.go.txt
var signals []byte

// Build makes programs of the module at root, such as ./cmd/duoflowd, in the folder to, with all failpoints awake. The
// sources stay as they are: the compiler is shown others in their place. What it is shown lies in root's .cache; one Build
// at a time, others wait. It is quick when nothing changed.
func Build(ctx context.Context, root, to string, programs ...string) (err error) {
	b := builder{root: root, dir: filepath.Join(root, ".cache", "failpoints"), shown: map[string]string{}}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	lock, err := os.Create(filepath.Join(b.dir, "lock"))
	if err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	if err := errors.Join(b.showSources(), b.showModule(ctx)); err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	return b.build(ctx, to, programs)
}

// builder is one build.
type builder struct {
	root, dir string
	shown     map[string]string // path of a source -> what the compiler reads in its place
}

// showSources writes every file with a failpoint anew.
func (b *builder) showSources() error {
	points, err := Points(b.root)
	if err != nil {
		return err
	}
	for _, p := range points {
		source := filepath.Join(b.root, p.File)
		if _, done := b.shown[source]; done {
			continue
		}
		if err := b.showSource(source, p.File); err != nil {
			return fmt.Errorf("%s: %w", p.File, err)
		}
	}
	return nil
}

func (b *builder) showSource(source, file string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), source, text, parser.PackageClauseOnly)
	if err != nil {
		return err
	}
	changed, binding, err := awake(text, parsed.Name.Name)
	if err != nil {
		return err
	}
	besides := strings.TrimSuffix(file, ".go") + ".fail.go"
	b.shown[source] = filepath.Join(b.dir, "source", file)
	b.shown[filepath.Join(b.root, besides)] = filepath.Join(b.dir, "source", besides)
	return errors.Join(write(b.shown[source], changed), write(filepath.Join(b.dir, "source", besides), binding))
}

// showModule makes a go.mod that takes gofail from a copy, and that copy: its runtime and our signals.
func (b *builder) showModule(ctx context.Context) error {
	from, err := b.command(ctx, "list", "-m", "-f", "{{.Dir}}", gofail)
	if err != nil {
		return err
	}
	if err := b.showRuntime(filepath.Join(strings.TrimSpace(from), "runtime")); err != nil {
		return err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(b.root, name))
		if err != nil {
			return err
		}
		if name == "go.mod" {
			text = fmt.Appendf(text, "\nreplace %s => %s\n", gofail, filepath.Join(b.dir, "gofail"))
		}
		if err := write(filepath.Join(b.dir, name), text); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) showRuntime(from string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no runtime of %s in %s: run go mod download", gofail, from)
	}
	copied := filepath.Join(b.dir, "gofail")
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(copied, "runtime", filepath.Base(file)), text); err != nil {
			return err
		}
	}
	return errors.Join(
		write(filepath.Join(copied, "runtime", "signals.go"), signals),
		write(filepath.Join(copied, "go.mod"), fmt.Appendf(nil, "module %s\n\ngo 1.21\n", gofail)))
}

func (b *builder) build(ctx context.Context, to string, programs []string) error {
	overlay, err := json.Marshal(map[string]any{"Replace": b.shown})
	if err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	list := filepath.Join(b.dir, "overlay.json")
	if err := write(list, overlay); err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	args := []string{"build", "-overlay", list, "-modfile", filepath.Join(b.dir, "go.mod"), "-o", to + "/"}
	if _, err := b.command(ctx, append(args, programs...)...); err != nil {
		return fmt.Errorf("build with failpoints: %w", err)
	}
	return nil
}

func (b *builder) command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.root
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, complaints.String())
	}
	return string(out), nil
}

func write(path string, text []byte) error {
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644))
}
