package airflow_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/airflow"
)

func TestEnvironmentLeavesNoWayAroundTheFence(t *testing.T) {
	env := airflow.Environment(airflow.Process{Node: "a", Label: "life7", ServiceFile: "/run/x/service"}, []string{
		"PATH=/bin", "PGPASSWORD=secret", "PGSERVICE=other", "PGSERVICEFILE=/other", "PGHOST=other",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql://owner:secret@db/airflow",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD=echo secret",
		"AIRFLOW__CELERY__RESULT_BACKEND=db+postgresql://owner:secret@db/airflow",
		"AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC=3", "AIRFLOW__DATABASE__CHECK_MIGRATIONS=True",
		"CELERY_RESULT_BACKEND=db+postgresql://owner:secret@db/airflow", "DUOFLOW_BROKER_FILE=/another/life's",
		"OMP_NUM_THREADS=4", "not an assignment", "AIRFLOW__CELERY__BROKER_URL=amqp://u:p@q//",
	})
	want := []string{
		"AIRFLOW__CELERY__BROKER_URL=amqp://u:p@q//",
		"AIRFLOW__CELERY__RESULT_BACKEND=db+postgresql+psycopg2:///?service=airflow",
		"AIRFLOW__DATABASE__CHECK_MIGRATIONS=False",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=postgresql+psycopg2:///?service=airflow",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=",
		"AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK=False",
		"AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC=3",
		"DUOFLOW_NODE=a",
		"MKL_NUM_THREADS=1",
		"OMP_NUM_THREADS=4",
		"OPENBLAS_NUM_THREADS=1",
		"PATH=/bin",
		"PGAPPNAME=duoflow/a/life7",
		"PGSERVICEFILE=/run/x/service",
		"PYTHONUNBUFFERED=1",
	}
	if !slices.Equal(env, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(env, "\n"), strings.Join(want, "\n"))
	}
}

func TestEnvironmentKeepsAResultBackendThatIsNoDatabase(t *testing.T) {
	env := airflow.Environment(airflow.Process{Node: "a", Label: "1", ServiceFile: "/s"},
		[]string{"AIRFLOW__CELERY__RESULT_BACKEND=redis://r/0"})
	if !slices.Contains(env, "AIRFLOW__CELERY__RESULT_BACKEND=redis://r/0") {
		t.Errorf("the scheduler would read results where no worker writes them: %v", env)
	}
}

func TestEnvironmentOfALifeWithAUserAtTheBroker(t *testing.T) {
	operator := []string{
		"AIRFLOW__CELERY__BROKER_URL=amqp://u:secret@q//", "AIRFLOW__CELERY__BROKER_URL_CMD=echo secret",
		"AIRFLOW__CELERY__BROKER_URL_SECRET=secret", "CELERY_BROKER_URL=secret", "CELERY_BROKER_READ_URL=secret", "CELERY_BROKER_WRITE_URL=secret",
	}
	process := airflow.Process{Node: "a", Label: "1", ServiceFile: "/s", BrokerFile: "/b"}
	env := airflow.Environment(process, operator)
	if !slices.Contains(env, "DUOFLOW_BROKER_FILE=/b") || !slices.Contains(env, operator[0]) {
		t.Errorf("a broker that may be missing leaves the operator's way to it: %v", env)
	}
	process.BrokerOnly = true
	env = airflow.Environment(process, operator)
	if text := strings.Join(env, "\n"); strings.Contains(text, "secret") || !strings.Contains(text, "AIRFLOW__CELERY__BROKER_URL=amqp://nobody@broker.invalid//\n") {
		t.Errorf("one that is required has left another way:\n%s", text)
	}
}
