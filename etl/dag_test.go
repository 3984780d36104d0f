package etl_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"testing"
)

// lent runs login() of the DAG with stand-ins for Airflow's own, and prints what it puts into a task's environment that is of libpq or duoflow.
const lent = `
import importlib.util, json, os, sys, types

class Connection:
    extra = json.dumps({"job": "etl", "epoch": 7, "node": "a", "libpq": {
        "host": "db1,db2", "port": "5432,5433", "dbname": "lightning", "sslmode": "verify-full", "sslrootcert": "/ca.pem",
        "channel_binding": "require", "target_session_attrs": "read-write", "connect_timeout": "2"}})
    login, password = "df_lightning_etl_e7", "secret"

    @classmethod
    def get(cls, name):
        return cls()

sdk, exceptions = types.ModuleType("airflow.sdk"), types.ModuleType("airflow.sdk.exceptions")
sdk.Connection, sdk.BaseSensorOperator = Connection, object
sdk.dag = lambda **options: lambda body: lambda: None
sdk.task = sdk.task_group = sdk.get_current_context = lambda *given: None
exceptions.AirflowException = exceptions.AirflowFailException = Exception
sys.modules.update({"airflow": types.ModuleType("airflow"), "airflow.sdk": sdk, "airflow.sdk.exceptions": exceptions})
found = importlib.util.spec_from_file_location("lightning", "dags/lightning.py")
lightning = importlib.util.module_from_spec(found)
sys.dont_write_bytecode = True
found.loader.exec_module(lightning)
os.environ.update({"PGHOST": "elsewhere", "PGUSER": "owner", "PGPASSFILE": "/owner", "DUOFLOW_EPOCH": "99"})
epoch, environment = lightning.login()
assert epoch == 7, epoch
print(json.dumps({k: v for k, v in environment.items() if k.startswith(("PG", "DUOFLOW_")) and k != "DUOFLOW_NODE"}))
`

// TestALoginReachesTheTask: every setting of the login that is lent gets the name by which libpq, and pgx, know it in the environment.
func TestALoginReachesTheTask(t *testing.T) {
	text, err := exec.CommandContext(t.Context(), "python3", "-c", lent).Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Logf("%s", failed.Stderr)
		}
		t.Fatal(err)
	}
	got := map[string]string{}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	want := map[string]string{
		"PGHOST": "db1,db2", "PGPORT": "5432,5433", "PGDATABASE": "lightning", "PGUSER": "df_lightning_etl_e7", "PGPASSWORD": "secret",
		"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/ca.pem", "PGCHANNELBINDING": "require", "PGTARGETSESSIONATTRS": "read-write",
		"PGCONNECT_TIMEOUT": "2", "DUOFLOW_JOB": "etl", "DUOFLOW_EPOCH": "7",
	}
	if !maps.Equal(got, want) {
		t.Errorf("the task has %v\nwant %v", got, want)
	}
}
