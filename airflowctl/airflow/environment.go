package airflow

import (
	"fmt"
	"slices"
	"strings"
)

// Service is the name of the one service in the service file of a scheduler's life.
const Service = "airflow"

// Process says what one life of the scheduler is.
type Process struct {
	Node        string
	Label       string // of the life; the epoch takes its place once it is known
	ServiceFile string // path of this life's libpq service file; it need not exist yet
	// BrokerFile is the path of a file with the URL for Celery's broker, which need not exist yet; "" = as the operator has it.
	BrokerFile string
	// BrokerOnly takes the operator's own way to the broker out: without that file nothing can be sent.
	BrokerOnly bool
}

// BrokerVariable names, for the shim, the file with the URL for Celery's broker.
const BrokerVariable = "DUOFLOW_BROKER_FILE"

// noBroker is the broker's URL while there is none. Nothing is ever sent there: names below invalid never resolve.
const noBroker = "amqp://nobody@broker.invalid//"

// Environment returns what a scheduler's life must be started with: the operator's environment
// (NAME=value) with the variables below put over or under it. Sorted by name, each name once.
//
// All connections go through the service file. So the operator's passwords and connection strings
// for the metastore are taken out: one that stayed would let the scheduler pass by the fence.
func Environment(process Process, operator []string) []string {
	merged := map[string]string{}
	for _, entry := range operator {
		name, value, found := strings.Cut(entry, "=")
		if found && !bypasses(name, value) && name != BrokerVariable && !(process.BrokerOnly && leadsToBroker(name)) {
			merged[name] = value
		}
	}
	for name, value := range defaults {
		if _, set := merged[name]; !set {
			merged[name] = value
		}
	}
	for name, value := range forced(process) {
		if name == resultBackend && foreignBackend(merged[name]) {
			continue
		}
		merged[name] = value
	}
	entries := make([]string, 0, len(merged))
	for _, name := range sortedKeys(merged) {
		entries = append(entries, name+"="+merged[name])
	}
	return entries
}

const brokerURL = "AIRFLOW__CELERY__BROKER_URL"

// leadsToBroker tells whether a variable would lead Celery to a broker; standby.py knows them too.
func leadsToBroker(name string) bool {
	return slices.Contains([]string{
		brokerURL, brokerURL + "_CMD", brokerURL + "_SECRET", "CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL",
	}, name)
}

const resultBackend = "AIRFLOW__CELERY__RESULT_BACKEND"

// forced are the variables that the fence and the warm start depend on.
func forced(process Process) map[string]string {
	all := map[string]string{
		"PGSERVICEFILE": process.ServiceFile,
		"PGAPPNAME":     fmt.Sprintf("duoflow/%s/%s", process.Node, process.Label),
		"DUOFLOW_NODE":  process.Node,
		// The driver is named: which one a bare postgresql:// means has changed with SQLAlchemy.
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg2:///?service=" + Service,
		resultBackend:                         "db+postgresql+psycopg2:///?service=" + Service,
		// Empty = no asynchronous engine. A scheduler has no use for one, and the one that Airflow
		// derives (asyncpg) cannot read a service file.
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "",
		"AIRFLOW__DATABASE__CHECK_MIGRATIONS":       "False",
		// An orphaned health server would go on answering for a dead scheduler.
		"AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
		"PYTHONUNBUFFERED":                        "1", // its lines are wanted when it dies
	}
	if process.BrokerFile != "" {
		all[BrokerVariable] = process.BrokerFile
	}
	if process.BrokerOnly {
		all[brokerURL] = noBroker
	}
	return all
}

// defaults give way to the operator.
var defaults = map[string]string{
	// The row in table job lags a beat, so 5 s (Airflow's own) would look like up to 10 s.
	"AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
	// A scheduler does no linear algebra; the libraries would make a thread for each core.
	"OMP_NUM_THREADS":      "1",
	"OPENBLAS_NUM_THREADS": "1",
	"MKL_NUM_THREADS":      "1",
}

// bypasses tells whether a variable would lead libpq or Airflow to the metastore by another way.
func bypasses(name, value string) bool {
	if name == "CELERY_RESULT_BACKEND" { // Celery's own, which wins over Airflow's setting
		return !foreignBackend(value)
	}
	return slices.Contains([]string{
		"PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGSERVICE",
		"PGOPTIONS", "PGTARGETSESSIONATTRS", "PGREQUIREAUTH",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET",
		"AIRFLOW__CELERY__RESULT_BACKEND_CMD", "AIRFLOW__CELERY__RESULT_BACKEND_SECRET",
		"AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW_CONN_AIRFLOW_DB",
	}, name)
}

// foreignBackend tells whether results are kept outside of a database, for instance in Redis. The
// scheduler only reads them, and must read them where the workers write.
func foreignBackend(value string) bool { return value != "" && !strings.HasPrefix(value, "db+") }
