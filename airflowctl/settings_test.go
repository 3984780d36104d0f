package airflowctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "airflow.cfg")
	text := "[core]\nexecutor = CeleryExecutor\n[scheduler]\nscheduler_heartbeat_sec = 6\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	base := Config{Kind: Airflow, Python: "/bin/sh", Env: []string{"AIRFLOW_HOME=" + dir}}
	for name, test := range map[string]struct {
		change func(*Config)
		bad    string // the finding that is not well
		says   string
	}{
		"well":           {says: "CeleryExecutor"},
		"no python":      {change: func(c *Config) { c.Python = "/no/such/python" }, bad: "Airflow's interpreter", says: "no program on this host"},
		"no program":     {change: func(c *Config) { c.Python = config }, bad: "Airflow's interpreter", says: "no program on this host"},
		"slow heartbeat": {change: heartbeat("15"), bad: "scheduler_heartbeat_sec", says: "taken for hung"},
		"no heartbeat":   {change: heartbeat("often"), bad: "scheduler_heartbeat_sec", says: "often s"},
		"local executor": {change: func(c *Config) { c.Env = append(c.Env, "AIRFLOW__CORE__EXECUTOR=LocalExecutor") }, says: "end with it"},
		"a command":      {change: func(c *Config) { c.Kind = Command }},
	} {
		t.Run(name, func(t *testing.T) {
			c := base
			if test.change != nil {
				test.change(&c)
			}
			var said []string
			for _, f := range c.checkSettings() {
				said = append(said, f.Detail)
				if f.OK == (f.Name == test.bad) || f.OK == (f.Mend != "") {
					t.Errorf("%+v", f)
				}
			}
			if !strings.Contains(strings.Join(said, "; "), test.says) {
				t.Errorf("said %q, want %q", said, test.says)
			}
		})
	}
}

func TestReleaseOfAirflow(t *testing.T) {
	for _, test := range []struct {
		folders  []string
		accepted []string
		known    bool
		says     string
	}{
		{[]string{"apache_airflow-3.3.2.dist-info", "apache_airflow_core-3.3.2.dist-info"}, nil, true, "3.3.2"},
		{[]string{"apache_airflow-2.11.2.dist-info"}, nil, true, "2.11.2"},
		{[]string{"apache_airflow-3.30.0.dist-info"}, nil, false, "3.30.0, not one of 2.11, 3.3"},
		{[]string{"apache_airflow-2.1.4.dist-info"}, nil, false, "2.1.4"},
		{[]string{"apache_airflow_core-4.0.0rc1.dist-info"}, nil, false, "4.0.0rc1"},
		{[]string{"apache_airflow_core-4.0.0.dist-info"}, []string{"0123456789ab"}, true, "4.0.0"},
		{[]string{"apache_airflow_providers_celery-3.26.0.dist-info"}, nil, true, "not found"},
	} {
		prefix := t.TempDir()
		for _, path := range append([]string{"bin"}, test.folders...) {
			if path != "bin" {
				path = filepath.Join("lib", "python3.11", "site-packages", path)
			}
			if err := os.MkdirAll(filepath.Join(prefix, path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(prefix, "pyvenv.cfg"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		in := install{python: filepath.Join(prefix, "bin", "python")}
		if f := in.checkRelease(test.accepted); !f.OK || (f.Mend == "") != test.known || !strings.HasPrefix(f.Detail, test.says) {
			t.Errorf("%v: %+v", test.folders, f)
		}
	}
}

func heartbeat(text string) func(*Config) {
	return func(c *Config) { c.Env = append(c.Env, "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC="+text) }
}
