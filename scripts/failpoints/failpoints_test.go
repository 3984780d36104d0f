package failpoints_test

import (
	"bufio"
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/failpoints"
)

// TestThePointsOfTheHouse: each name once, in a function, where the compiler takes it for a statement.
func TestThePointsOfTheHouse(t *testing.T) {
	root := filepath.Join("..", "..")
	points, err := failpoints.Points(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(points) < 20 {
		t.Errorf("only %d failpoints: %v", len(points), points)
	}
	for _, p := range points {
		if !inFunction(t, filepath.Join(root, p.File), p.Line) {
			t.Errorf("%s:%d: failpoint %s is in no function", p.File, p.Line, p.Name)
		}
	}
}

func inFunction(t *testing.T, path string, line int) bool {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(file.Decls, func(d ast.Decl) bool {
		f, ok := d.(*ast.FuncDecl)
		return ok && f.Body != nil && set.Position(f.Body.Pos()).Line < line && line < set.Position(f.Body.End()).Line
	})
}

// program passes two points when it is told a line, and says so.
const program = `package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	fmt.Printf("ready %q %q\n", os.Getenv("GOFAIL_HTTP"), os.Getenv("GOFAIL_FAILPOINTS"))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		// gofail: var before struct{}
		fmt.Println("did", lines.Text())
		// gofail: var after struct{}
	}
}
`

// module writes a module with the program, and returns its folder.
func module(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	sum, err := os.ReadFile(filepath.Join("..", "..", "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"main.go": text, "go.sum": string(sum), "go.mod": "module example\n\ngo 1.26\n\nrequire go.etcd.io/gofail v0.2.0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWhatIsNoPointIsRefused(t *testing.T) {
	twice := strings.ReplaceAll(program, "var after", "var before")
	below := strings.ReplaceAll(program, "var before struct{}\n", "var before struct{}\n\t\t// it says so\n")
	for text, want := range map[string]string{
		twice: "failpoint before is in main.go:12 already",
		below: "main.go:13: the comment below failpoint before",
		strings.ReplaceAll(program, "gofail: var", "gofail var"):     "main.go:12: not a failpoint",
		strings.ReplaceAll(program, "before struct{}", "before int"): "main.go:12: not a failpoint",
	} {
		if _, err := failpoints.Points(module(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestAPointKillsFreezesAndWaits builds a program as duoflowd is built, and has it do all that a point can be told.
func TestAPointKillsFreezesAndWaits(t *testing.T) {
	dir := module(t, program)
	if err := failpoints.Build(t.Context(), dir, filepath.Join(dir, "bin"), "."); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin", "example")
	t.Run("asleep", func(t *testing.T) {
		p := start(t, bin)
		p.tell("one")
		p.hears("did one")
	})
	t.Run("killed", func(t *testing.T) {
		p := start(t, bin, "GOFAIL_FAILPOINTS=before=1*off->kill")
		p.tell("one")
		p.hears("did one")
		p.tell("two")
		rest, signal := p.ended()
		if signal != syscall.SIGKILL || rest != "" || !strings.Contains(p.errs.String(), "failpoint: before: kill") {
			t.Errorf("ended with %v, and said %q and %q", signal, rest, p.errs.String())
		}
	})
	t.Run("frozen", func(t *testing.T) {
		p := start(t, bin, "GOFAIL_FAILPOINTS=before=1*freeze")
		p.tell("one")
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("%v, %v", status, err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		p.hears("did one")
	})
	t.Run("late, by http", func(t *testing.T) {
		address := freeAddress(t)
		p := start(t, bin, "GOFAIL_HTTP="+address)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+address+"/after", strings.NewReader(`1*sleep("50ms")`))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusNoContent {
			t.Fatalf("%s, %v", answer.Status, err)
		}
		began := time.Now()
		p.tell("one")
		p.tell("two")
		p.hears("did two")
		if took := time.Since(began); took < 50*time.Millisecond {
			t.Errorf("it was late by %s", took)
		}
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// running is a program that is told lines, and ends with its input.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	errs bytes.Buffer // when it has ended
}

// start starts it and waits until it is ready; what it was told of points is not for its children.
func start(t *testing.T, bin string, env ...string) *running {
	t.Helper()
	p := &running{t: t, cmd: exec.Command(bin)}
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), env...), &p.errs
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in, p.out = in, bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.in.Close()
			_ = p.cmd.Process.Kill() // it may have ended by itself
			_ = p.cmd.Wait()         // and how does not matter any more
		}
	})
	p.hears(`ready "" ""`)
	return p
}

func (p *running) tell(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// hears reads what it says up to a line.
func (p *running) hears(line string) {
	p.t.Helper()
	for p.out.Scan() {
		if p.out.Text() == line {
			return
		}
	}
	p.t.Fatalf("it never said %q", line)
}

// ended waits for its end, reads the rest of what it said, and returns the signal.
func (p *running) ended() (rest string, signal syscall.Signal) {
	p.t.Helper()
	for p.out.Scan() {
		rest += p.out.Text() + "\n"
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); !errors.As(err, &exit) {
		p.t.Fatalf("it ended with %v", err)
	}
	return rest, exit.Sys().(syscall.WaitStatus).Signal()
}
