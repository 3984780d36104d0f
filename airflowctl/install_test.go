package airflowctl

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestChanges(t *testing.T) {
	old := fingerprint{"a": "1", "b": "1", "c": "1"}
	for _, example := range []struct {
		now  fingerprint
		want []string
	}{
		{fingerprint{"a": "1", "b": "1", "c": "1"}, nil},
		{fingerprint{"a": "2", "b": "1", "c": "1"}, []string{"changed: a"}},
		{fingerprint{"b": "1", "c": "1", "d": ""}, []string{"gone: a", "new: d"}},
		{fingerprint{"d": "", "e": ""}, []string{"gone: a", "gone: b", "gone: c", "new: d", "and more"}},
	} {
		if got := old.changes(example.now); !slices.Equal(got, example.want) {
			t.Errorf("%v: %q, want %q", example.now, got, example.want)
		}
	}
	learned := old.learn(fingerprint{"a": "2", "d": "4", "e": "5"}, "a", "d", "x")
	if got := old.changes(learned); !slices.Equal(got, []string{"new: d"}) {
		t.Errorf("learned %q; want only what was named and not known", got)
	}
}

// TestEveryPartIsSeen changes one thing after the other.
func TestEveryPartIsSeen(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(in(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("venv/bin/python", "")
	write("venv/pyvenv.cfg", "")
	write("home/airflow.cfg", "[core]\nplugins_folder = {AIRFLOW_HOME}/more\n[x]\nplugins_folder = /no\n")
	write("venv/lib/python3.11/site-packages/airflow/x.py", "")
	cfg := Config{Python: in("venv/bin/python"), Env: []string{
		"HOME=" + dir, "AIRFLOW_HOME=~/home", "PYTHONPATH=" + in("path") + ":relative",
	}}
	look := func() fingerprint { return findInstall(cfg).fingerprint() }
	before := look()
	for _, name := range []string{
		"venv/bin/python", "venv/pyvenv.cfg", "home/airflow.cfg", "home/webserver_config.py",
		"home/config/airflow_local_settings.py", "home/more/deep/plugin.py", "path/airflow_local_settings.py",
		"venv/lib/python3.11/site-packages/apache_airflow-3.3.3.dist-info", "venv/lib/python3.11/site-packages/mine.pth",
	} {
		text := "x"
		if name == "home/airflow.cfg" {
			text = "[core]\nplugins_folder = {AIRFLOW_HOME}/more\nparallelism = 3\n"
		}
		write(name, text)
		now := look()
		if got := before.changes(now); len(got) != 1 || !strings.HasSuffix(got[0], ": "+in(name)) {
			t.Errorf("%s: %q", name, got)
		}
		before = now
	}
	for _, name := range []string{"home/more/__pycache__/plugin.pyc", "home/more/x.pyc", "home/logs/x", "home/plugins/x.py", "relative/x"} {
		write(name, "x")
		if got := before.changes(look()); got != nil {
			t.Errorf("%s: %q, want nothing", name, got)
		}
	}
}

// TestAPipeIsNoConfiguration: a job's user who puts one there must not hold up the daemon.
func TestAPipeIsNoConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "airflow.cfg")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(path, os.O_RDWR, 0) // so that a read would wait
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if got := option(path, "core", "plugins_folder"); got != "" {
		t.Errorf("got %q", got)
	}
}

// TestASystemPythonHasItsOwnFolders: without a virtual environment the packages are those of the real interpreter.
func TestASystemPythonHasItsOwnFolders(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"usr/bin", "opt/bin", "usr/lib/python3/dist-packages/x-1.dist-info", "home/.local/lib/python3.11/site-packages/y-1.dist-info"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "usr/bin/python3"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "usr/bin/python3"), filepath.Join(dir, "opt/bin/python")); err != nil {
		t.Fatal(err)
	}
	seen := findInstall(Config{Python: "python", Env: []string{"HOME=" + filepath.Join(dir, "home"), "PATH=/no:" + filepath.Join(dir, "opt/bin")}}).fingerprint()
	for _, name := range []string{"opt/bin/python", "usr/lib/python3/dist-packages/x-1.dist-info", "home/.local/lib/python3.11/site-packages/y-1.dist-info"} {
		if _, ok := seen[filepath.Join(dir, name)]; !ok {
			t.Errorf("%s not seen in %v", name, seen)
		}
	}
}

// TestTheExecutorIsFound as Airflow finds it: the environment goes before airflow.cfg.
func TestTheExecutorIsFound(t *testing.T) {
	home := t.TempDir()
	cfg := Config{Env: []string{"AIRFLOW_HOME=" + home}}
	for _, want := range []string{"", "CeleryExecutor", "LocalExecutor"} {
		switch want {
		case "CeleryExecutor":
			if err := os.WriteFile(filepath.Join(home, "airflow.cfg"), []byte("[core]\nexecutor = CeleryExecutor\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		case "LocalExecutor":
			cfg.Env = append(cfg.Env, "AIRFLOW__CORE__EXECUTOR=LocalExecutor")
		}
		if got := findInstall(cfg).executor; got != want {
			t.Errorf("executor %q, want %q", got, want)
		}
	}
}
