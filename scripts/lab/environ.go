package lab

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// celeryReady is the worker's first line after it has subscribed to its queue.
var celeryReady = regexp.MustCompile(`celery@\S+ ready`)

// databaseKeys hold the metastore's password; duoflowd gives its jobs values of its own.
var databaseKeys = []string{
	"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC=", "AIRFLOW__CELERY__RESULT_BACKEND=",
}

// Env is the environment of Airflow's services, with the owner's password: our own without foreign
// Airflow settings, and with compiled Python files allowed, which make the start three times quicker.
func (a *Airflow) Env() []string {
	env := withoutEnv(os.Environ(), "AIRFLOW_", "PYTHONDONTWRITEBYTECODE=", "PATH=", "DUOFLOW_", "PG")
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

// Store is the metastore.
func (a *Airflow) Store() *Metastore { return a.store }
