package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"path/filepath"
)

// line is what differs between the lines of Airflow, for those who start it and ask it.
type line struct {
	venv     string // under .cache
	api      string // path of the REST API
	health   string
	login    bool // calls need a token
	dags     []string
	services []service
	environ  func(host, port string) map[string]string // wins over line 3's
}

type service struct {
	name string
	args []string
}

var worker = service{"worker", []string{"celery", "worker", "--skip-serve-logs", "--without-mingle", "--without-gossip"}}

// line3 is Airflow 3. Its services are started in this order.
func line3() line {
	return line{
		venv: "venv", api: "/api/v2", health: "/api/v2/monitor/health", login: true, dags: []string{DAG, PipelineDAG},
		services: []service{{"api-server", []string{"api-server"}}, {"dag-processor", []string{"dag-processor"}}, worker},
		environ:  func(_, _ string) map[string]string { return nil },
	}
}

// line2 is Airflow 2, whose webserver lets everybody on the lab's network in as an administrator. Its schedulers leave the DAG files to a
// process of its own, as those of line 3 do. The pipeline's DAG is written for line 3 alone.
func line2() line {
	return line{
		venv: "venv-2.11", api: "/api/v1", health: "/health", dags: []string{DAG},
		services: []service{
			{"api-server", []string{"webserver", "--workers", "1"}}, {"dag-processor", []string{"dag-processor"}}, worker,
		},
		environ: webserver,
	}
}

func webserver(host, port string) map[string]string {
	return map[string]string{
		"AIRFLOW__CORE__AUTH_MANAGER":                  "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
		"AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
		"AIRFLOW__WEBSERVER__SECRET_KEY":               rand.Text(),
		"AIRFLOW__WEBSERVER__WEB_SERVER_HOST":          host,
		"AIRFLOW__WEBSERVER__WEB_SERVER_PORT":          port,
	}
}

// everybody is a webserver_config.py of line 2.
const everybody = "AUTH_ROLE_PUBLIC = \"Admin\"\n"

func lineOf(number int) line {
	if number == 2 {
		return line2()
	}
	return line3()
}

func (l line) file(dag string) string {
	if dag == PipelineDAG {
		return filepath.Join("etl", "dags", dag+".py")
	}
	return filepath.Join("scripts", "airflow", "dags", dag+".py")
}

// healthy also fetches the token that later calls need.
func (a *Airflow) healthy(ctx context.Context) error {
	if err := a.call(ctx, http.MethodGet, a.line.health, nil, nil); err != nil || !a.line.login {
		return err
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := a.call(ctx, http.MethodGet, "/auth/token", nil, &answer); err != nil {
		return err
	}
	if answer.Token == "" {
		return errors.New("the api-server gave no token")
	}
	a.token = answer.Token
	return nil
}
