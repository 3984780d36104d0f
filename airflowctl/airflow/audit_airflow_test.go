//go:build airflow

package airflow_test

import (
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/airflowctl/audit"
)

// audited judges the whole history of the stage from outside, then has the real scheduler and worker run one try twice and judges again.
func (s *stage) audited() {
	t := s.t
	began := s.text("SELECT count(*)::text FROM log WHERE event = 'running'")
	bodies := s.text("SELECT count(*)::text FROM task_instance WHERE start_date IS NOT NULL")
	if began != bodies {
		t.Errorf("%s bodies were begun by Airflow's log, want %s, one for each task", began, bodies)
	}
	report := s.audit()
	if len(report.Findings)+len(report.Unseen)+len(report.Remarks) != 0 {
		t.Errorf("findings %+v, remarks %q, unseen %+v", report.Findings, report.Remarks, report.Unseen)
	}
	tries := 0
	for n, e := range report.Epochs {
		if e.Epoch != uint64(n+1) || len(e.Schedulers) != 1 {
			t.Errorf("epoch %d has schedulers %+v", e.Epoch, e.Schedulers)
		}
		tries += e.Tries
	}
	if strconv.Itoa(tries) != bodies || len(report.Epochs) != int(s.epoch) {
		t.Errorf("%d tries in %d epochs, want %s in %d", tries, len(report.Epochs), bodies, s.epoch)
	}
	s.runTwice("twice")
	report = s.audit()
	if got := report.Findings; len(got) != 1 || got[0].Kind != audit.TryTwice || got[0].Epoch != s.epoch || !strings.Contains(got[0].Detail, "run twice,") {
		t.Errorf("findings %+v, want the try that ran twice", got)
	}
}

func (s *stage) audit() audit.Report {
	s.t.Helper()
	e, err := audit.Read(s.t.Context(), audit.Config{DSN: s.airflow.Store().Admin(), Job: job, Group: "airflow", Airflow: true})
	must(s.t, err)
	return audit.Judge(e, 2*time.Second)
}

// runTwice takes a running task back to scheduled, id and try as they are, as no scheduler does: its body begins again.
func (s *stage) runTwice(run string) {
	s.t.Helper()
	must(s.t, s.airflow.Trigger(s.t.Context(), run))
	task := ""
	eventually(s.t, "a task that runs was taken back", func() bool {
		task = s.text(`WITH one AS (SELECT id FROM task_instance WHERE run_id = $1 AND state = 'running' LIMIT 1), back AS (
			UPDATE task_instance t SET state = 'scheduled', queued_by_job_id = NULL, external_executor_id = NULL FROM one WHERE t.id = one.id AND t.state = 'running'
			RETURNING t.task_id)
			SELECT coalesce(max(task_id), '') FROM back`, run)
		return task != ""
	})
	eventually(s.t, "its body began again", func() bool {
		return s.text("SELECT (count(*) > 1)::text FROM log WHERE event = 'running' AND run_id = $1 AND task_id = $2 AND try_number = 1", run, task) == "true"
	})
}
