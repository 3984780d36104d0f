package lab

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// celeryReady is the worker's first line after it has subscribed to its queue.
var celeryReady = regexp.MustCompile(`celery@\S+ ready`)

// databaseKeys hold the metastore's password; duoflowd gives its jobs values of its own.
var databaseKeys = []string{
	"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=", "AIRFLOW__CELERY__RESULT_BACKEND=",
}

// cleanEnv is our own environment without what would lead programs of the lab elsewhere: proxies, and
// settings of another Airflow, Postgres or duoflow.
func cleanEnv() []string {
	return withoutEnv(os.Environ(), "AIRFLOW_", "DUOFLOW_", "DUOCTL_", "PG",
		"http_proxy=", "https_proxy=", "all_proxy=", "HTTP_PROXY=", "HTTPS_PROXY=", "ALL_PROXY=")
}

// Env is the environment of Airflow's services, with the owner's password. Compiled Python files are
// allowed in it, because they make every start three times quicker.
func (a *Airflow) Env() []string {
	env := withoutEnv(cleanEnv(), "PYTHONDONTWRITEBYTECODE=", "PATH=")
	for _, name := range slices.Sorted(maps.Keys(a.environ)) {
		env = append(env, name+"="+a.environ[name])
	}
	return env
}

// SchedulerEnv is Env without any way into the metastore, for duoflowd: it hands its scheduler a
// service file instead.
func (a *Airflow) SchedulerEnv() []string { return withoutEnv(a.Env(), databaseKeys...) }

// Python is the interpreter that Airflow is installed for.
func (a *Airflow) Python() string { return filepath.Join(a.venv, "bin", "python") }

// Home is Airflow's folder, with its logs.
func (a *Airflow) Home() string { return a.home }

// Store is the metastore.
func (a *Airflow) Store() *Metastore { return a.store }

// withoutEnv is the environment without the named variables.
func withoutEnv(env []string, names ...string) []string {
	var kept []string
next:
	for _, entry := range env {
		for _, name := range names {
			if strings.HasPrefix(entry, name) {
				continue next
			}
		}
		kept = append(kept, entry)
	}
	return kept
}
