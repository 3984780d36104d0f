//go:build airflow

package airflowctl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/scripts/lab"
)

// hanging is a program that uses the shim's own handler and then hangs where it is told to.
const hanging = `#!/bin/sh
exec "$REAL_PYTHON" -u -c '
import os, signal, sys, threading, time
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import standby

def beside():
    time.sleep(600)

def spin():
    standby.say("job 1")
    while True:
        pass

def call():
    lock = threading.Lock()
    lock.acquire()
    standby.say("job 1")
    lock.acquire()

standby.answer_dumps()
if os.environ["HANG"] == "mute":
    signal.pthread_sigmask(signal.SIG_BLOCK, [standby.DUMP])  # threads inherit it
threading.Thread(target=beside, daemon=True).start()
standby.say("warm 1 0.1")
os.read(standby.CONTROL, 100)
{"spin": spin, "call": call, "mute": spin}[os.environ["HANG"]]()
' "$@"
`

// TestPythonStacksOfAHungLife: a busy loop and a call of C do not keep the stacks from being printed, and a process that
// does not answer is killed all the same.
func TestPythonStacksOfAHungLife(t *testing.T) {
	m := newMetastore(t)
	program := filepath.Join(t.TempDir(), "python")
	must(t, os.WriteFile(program, []byte(hanging), 0o755))
	for i, way := range [][2]string{{"spin", "in spin"}, {"call", "in call"}, {"mute", "did not print its Python stacks"}} {
		hang, want, epoch := way[0], way[1], uint64(i+1)
		t.Run(hang, func(t *testing.T) {
			j := newJob(t, airflowctl.Config{
				Node: "a", Kind: airflowctl.Airflow, Python: program, FenceDSN: m.dsn["a"], Observer: &events{},
				Env: append(os.Environ(), "REAL_PYTHON="+python(t), "HANG="+hang),
			})
			takeWithoutAirflow(t, j, claim(epoch, "a"))
			began := time.Now()
			must(t, j.Stop(t.Context(), epoch, 0))
			took := time.Since(began)
			text := strings.Join(j.Status().LastLines[epoch], "\n")
			if !strings.Contains(text, want) || !strings.Contains(text, "duoflow: killed without grace") {
				t.Errorf("last lines lack %q:\n%s", want, text)
			}
			if hang != "mute" && !strings.Contains(text, "in beside") {
				t.Errorf("the other thread is missing:\n%s", text)
			}
			if took > 5*time.Second {
				t.Errorf("took %s", took)
			}
			t.Logf("took %s\n%s", took, text)
		})
	}
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
