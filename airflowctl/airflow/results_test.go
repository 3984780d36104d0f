package airflow_test

import (
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/airflow"
)

func TestCeleryKeepsItsResultsInTheMetastoreUnlessTold(t *testing.T) {
	const backend = "AIRFLOW__CELERY__RESULT_BACKEND="
	for _, c := range []struct {
		executor string
		env      []string
		want     bool
	}{
		{"CeleryExecutor", nil, true},
		{"LocalExecutor,airflow.providers.celery.executors.celery_executor.CeleryExecutor", nil, true},
		{"CeleryExecutor", []string{backend + "db+postgresql://x/y"}, true}, // the service file takes its place
		{"CeleryExecutor", []string{backend + "redis://x"}, false},
		{"LocalExecutor", nil, false},
		{"", nil, false}, // Airflow 3's default is LocalExecutor
	} {
		if got := airflow.KeepsResults(c.executor, c.env); got != c.want {
			t.Errorf("KeepsResults(%q, %q) = %v", c.executor, c.env, got)
		}
	}
}

func TestMissingResultTablesAreNamed(t *testing.T) {
	b := newBench(t)
	look := func(ok bool, parts ...string) {
		t.Helper()
		finding, err := airflow.CheckResults(t.Context(), b.admin.Config().ConnString(), b.group)
		if err != nil || finding.OK != ok || (finding.Mend == "") != ok {
			t.Errorf("found %+v, %v; want OK %v", finding, err, ok)
		}
		for _, part := range parts {
			if !strings.Contains(finding.Detail, part) {
				t.Errorf("detail %q lacks %q", finding.Detail, part)
			}
		}
	}
	look(false, "celery_taskmeta is missing", "celery_tasksetmeta is missing")
	run(t, b.admin, "CREATE TABLE public.celery_taskmeta (); CREATE TABLE public.celery_tasksetmeta ()")
	run(t, b.admin, "GRANT SELECT ON public.celery_taskmeta TO "+b.group)
	look(false, "celery_tasksetmeta may not be read by "+b.group)
	run(t, b.admin, "GRANT SELECT ON public.celery_tasksetmeta TO "+b.group)
	look(true)
	if _, err := airflow.CheckResults(t.Context(), b.admin.Config().ConnString(), "nobody_there"); err == nil {
		t.Error("a group that is not there has rights")
	}
	if _, err := airflow.CheckResults(t.Context(), "postgres://u:s3cr3t@h:x/db", b.group); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("an unusable DSN: %v", err)
	}
}
