//go:build airflow

package shim

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

const patience = 2 * time.Minute // a test that waits longer has failed

// standby is the program in a Python that has Airflow, with a service file that never comes to be.
type standby struct {
	t       *testing.T
	command *exec.Cmd
	control *os.File
	lines   *bufio.Scanner
	output  bytes.Buffer
}

func python(t *testing.T) string {
	t.Helper()
	if named := os.Getenv("DUOFLOW_AIRFLOW_PYTHON"); named != "" {
		return named
	}
	root, err := lab.Root()
	must(t, err)
	return filepath.Join(root, ".cache", "venv", "bin", "python")
}

// newStandby starts the program and waits until it is warm.
func newStandby(t *testing.T, arguments ...string) *standby {
	t.Helper()
	return newStandbyIn(t, nil, arguments...)
}

// newStandbyIn is newStandby with more in its environment.
func newStandbyIn(t *testing.T, more []string, arguments ...string) *standby {
	t.Helper()
	dir := t.TempDir()
	program, err := Write(filepath.Join(dir, "shim"))
	must(t, err)
	controlRead, controlWrite, err := os.Pipe()
	must(t, err)
	reportRead, reportWrite, err := os.Pipe()
	must(t, err)
	s := &standby{t: t, control: controlWrite, lines: bufio.NewScanner(reportRead)}
	s.command = exec.Command(python(t), append([]string{program}, arguments...)...)
	s.command.ExtraFiles = []*os.File{controlRead, reportWrite}
	s.command.Stdout, s.command.Stderr = &s.output, &s.output
	s.command.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "AIRFLOW_") || strings.HasPrefix(entry, "PYTHONDONTWRITEBYTECODE=")
	}),
		"AIRFLOW_HOME="+filepath.Join(dir, "home"), "PGSERVICEFILE="+filepath.Join(dir, "service"), "PGAPPNAME=duoflow/a/life1",
		"AIRFLOW__CORE__EXECUTOR=CeleryExecutor", "AIRFLOW__API_AUTH__JWT_SECRET=0123456789012345678901234567890123456789012345678901234567890123",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2:///?service=airflow",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=", "AIRFLOW__DATABASE__CHECK_MIGRATIONS=False",
		"AIRFLOW__CELERY__RESULT_BACKEND=db+postgresql+psycopg2:///?service=airflow",
		"AIRFLOW__CELERY__BROKER_URL=amqp://127.0.0.1:1//")
	s.command.Env = append(s.command.Env, more...)
	must(t, s.command.Start())
	must(t, errors.Join(controlRead.Close(), reportWrite.Close()))
	t.Cleanup(func() {
		_ = s.command.Process.Kill() // it has ended, unless the test failed
		_ = controlWrite.Close()
		_ = reportRead.Close()
	})
	s.awaitWarm(reportRead)
	return s
}

func (s *standby) awaitWarm(report *os.File) {
	s.t.Helper()
	must(s.t, report.SetReadDeadline(time.Now().Add(patience)))
	if !s.lines.Scan() {
		s.t.Fatalf("no line: %v\n%s", s.lines.Err(), s.output.String())
	}
	warm, err := Parse(s.lines.Text())
	if err != nil || warm.Kind != Warm || warm.PID != s.command.Process.Pid {
		s.t.Fatalf("first line %q (%v), want warm %d", s.lines.Text(), err, s.command.Process.Pid)
	}
	s.t.Logf("warm in %s", warm.Took)
}

// exit waits for the end, which the process must come to by itself.
func (s *standby) exit() *os.ProcessState {
	s.t.Helper()
	killer := time.AfterFunc(patience, func() { _ = s.command.Process.Kill() })
	defer killer.Stop()
	var status *exec.ExitError
	if err := s.command.Wait(); err != nil && !errors.As(err, &status) {
		s.t.Fatal(err)
	}
	return s.command.ProcessState
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStandbyEndsWithItsDaemon(t *testing.T) {
	s := newStandby(t)
	must(t, s.control.Close())
	if state := s.exit(); state.ExitCode() != 0 {
		t.Errorf("ended with %s, want exit code 0\n%s", state, s.output.String())
	}
}

func TestStandbyEndsAtOnceOnSIGTERM(t *testing.T) {
	s := newStandby(t)
	must(t, s.command.Process.Signal(syscall.SIGTERM))
	state := s.exit()
	if status := state.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("ended with %s, want the signal itself: a handler could hang", state)
	}
}

func TestStandbyRefusesAnotherLineThanGo(t *testing.T) {
	s := newStandby(t)
	_, err := s.control.WriteString("go on\n")
	must(t, err)
	if state := s.exit(); state.ExitCode() != 1 || !strings.Contains(s.output.String(), "expected 'go <epoch>'") {
		t.Errorf("ended with %s\n%s", state, s.output.String())
	}
}

// Without a service file go must fail there and nowhere before: that proves that nothing connected
// while warm, and that both entries lead to the metastore.
func TestStandbyReadsTheServiceFileOnlyAfterGo(t *testing.T) {
	for name, arguments := range map[string][]string{"fast": nil, "portable": {Portable}} {
		t.Run(name, func(t *testing.T) {
			s := newStandby(t, arguments...)
			if text := s.output.String(); strings.Contains(text, "service") {
				t.Errorf("touched the service file while warm:\n%s", text)
			}
			_, err := s.control.WriteString(Go(7) + "\n")
			must(t, err)
			state := s.exit()
			if state.ExitCode() != 1 || !strings.Contains(s.output.String(), "service file") {
				t.Errorf("ended with %s\n%s", state, s.output.String())
			}
			for s.lines.Scan() {
				t.Errorf("reports %q without a database", s.lines.Text())
			}
		})
	}
}
