//go:build airflow

package shim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// options is an operator's own configuration of Celery, made as Airflow's documentation says: a copy of the default one.
const options = `
from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

CONFIG = {**DEFAULT_CELERY_CONFIG, "worker_concurrency": 3}
`

// TestStandbySendsAsTheUserOfItsEpoch: whatever leads Celery elsewhere gives way to the file, or ends the process.
func TestStandbySendsAsTheUserOfItsEpoch(t *testing.T) {
	module := t.TempDir()
	must(t, os.WriteFile(filepath.Join(module, "celery_of_operator.py"), []byte(options), 0o600))
	const further, elsewhere = "service file", "duoflow standby: Celery would not connect as the epoch's own user"
	for name, c := range map[string]struct {
		env  []string
		file bool
		want string // of its output
	}{
		"nothing else":               {nil, true, further},
		"a copy of the default":      {[]string{"PYTHONPATH=" + module, "AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS=celery_of_operator.CONFIG"}, true, further},
		"Celery's own variables":     {[]string{"CELERY_BROKER_URL=amqp://x:1//", "CELERY_BROKER_WRITE_URL=amqp://x:2//", "CELERY_BROKER_READ_URL=amqp://x:3//"}, true, further},
		"a URL in Airflow's setting": {[]string{`AIRFLOW__CELERY__EXTRA_CELERY_CONFIG={"broker_write_url": "amqp://x:1//"}`}, true, elsewhere},
		"no file":                    {nil, false, further},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a b'c") // any path will do
			s := newStandbyIn(t, append(c.env, "DUOFLOW_BROKER_FILE="+path))
			if c.file {
				must(t, os.WriteFile(path, []byte("amqp://df_x:pass%2Fword@127.0.0.1:1/%2F"), 0o600))
			}
			_, err := s.control.WriteString(Go(7) + "\n")
			must(t, err)
			state := s.exit()
			if state.ExitCode() != 1 || !strings.Contains(s.output.String(), c.want) {
				t.Errorf("ended with %s\n%s", state, s.output.String())
			}
			var said []string
			for s.lines.Scan() {
				said = append(said, s.lines.Text())
			}
			if noted := len(said) == 1 && strings.Contains(said[0], "connecting as configured"); noted == c.file || len(said) > 1 {
				t.Errorf("it says %q", said)
			}
			if strings.Contains(s.output.String()+strings.Join(said, ""), "word") {
				t.Errorf("it shows the password:\n%s", s.output.String())
			}
		})
	}
}
