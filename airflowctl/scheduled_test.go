package airflowctl_test

import (
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl"
)

// TestScheduleIsChecked before anything is made.
func TestScheduleIsChecked(t *testing.T) {
	runner := []string{"/proc/self/exe"}
	for _, tt := range []struct {
		cfg  airflowctl.Config
		want string
	}{
		{airflowctl.Config{Kind: airflowctl.Command, Schedule: "soon", Runner: runner}, "expected exactly 5 fields"},
		{airflowctl.Config{Kind: airflowctl.Airflow, Schedule: "@daily", Runner: runner}, "kind airflow runs all the time"},
		{airflowctl.Config{Kind: airflowctl.Command, Schedule: "@daily"}, "nothing runs it"},
	} {
		tt.cfg.Name, tt.cfg.Node, tt.cfg.Root = jobName, "a", t.TempDir()
		if _, err := airflowctl.New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %s", tt.cfg, err, tt.want)
		}
	}
}
