package etl

import (
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/jackc/pgservicefile"

	"github.com/duoflow/duoflow/etl/dagrun"
)

// Airflow is where the DAG runs, for Driver airflow.
type Airflow struct {
	// Endpoint is the api-server's address, such as https://airflow:8080. Over http the password and what is lent to the tasks go in clear.
	Endpoint string `yaml:"endpoint" json:"endpoint"`
	// DAG is the id of etl/dags/lightning.py there; default lightning.
	DAG string `yaml:"dag" json:"dag"`
	// Connection is where the tasks find the login of the job's epoch; default duoflow_<job>.
	Connection string `yaml:"connection" json:"connection"`
	// UsernameEnv and PasswordEnv name the variables with a user who may trigger and clear runs and write connections; both empty: the
	// server gives everyone a token.
	UsernameEnv string `yaml:"username_env" json:"username_env"`
	PasswordEnv string `yaml:"password_env" json:"password_env"`
}

var connectionName = regexp.MustCompile(`^[\w.-]{1,200}$`)

func (a *Airflow) complete(job string) {
	if a.DAG == "" {
		a.DAG = "lightning"
	}
	if a.Connection == "" {
		a.Connection = "duoflow_" + job
	}
}

func (a Airflow) check(c *Config, want func(string, bool, string, ...any)) {
	switch c.Driver {
	case DriverBuiltin:
		want("airflow.endpoint", a.Endpoint == "", "is for driver airflow")
	case DriverAirflow:
		_, err := dagrun.New(dagrun.Config{Endpoint: a.Endpoint, DAG: a.DAG})
		want("airflow.endpoint", err == nil, "%v", err)
		want("airflow.connection", connectionName.MatchString(a.Connection), "%q: letters, digits, _, - and . only", a.Connection)
		want("airflow.username_env", (a.UsernameEnv == "") == (a.PasswordEnv == ""), "this and password_env, or neither")
		want("load.dsn_env", c.Load.DSNEnv == "", "is for driver builtin: the tasks get the login that duoflowd gives the job, epoch by epoch")
	default:
		want("driver", false, "%q is unknown; there are %s and %s", c.Driver, DriverBuiltin, DriverAirflow)
	}
}

// login is what duoflowd lets the job log in to the database with, for the tasks.
func (p *Pipeline) login() (dagrun.Login, error) {
	l := dagrun.Login{Job: p.identity.Job, Epoch: p.identity.Epoch, Node: p.identity.Node}
	file, name := p.env("PGSERVICEFILE"), p.env("PGSERVICE")
	if l.Epoch == 0 || file == "" || name == "" {
		return l, &Problems{List: []string{"driver: airflow is for a job of duoflowd, which sets DUOFLOW_EPOCH, PGSERVICE and PGSERVICEFILE: " +
			"let the cluster run it (duoctl), or use driver builtin"}}
	}
	services, err := pgservicefile.ReadServicefile(file)
	if err != nil {
		return l, fmt.Errorf("read the job's login in %s: %w", filepath.Base(file), err)
	}
	service, err := services.GetService(name)
	if err != nil {
		return l, fmt.Errorf("read the job's login in %s: %w", filepath.Base(file), err)
	}
	l.Libpq = service.Settings
	return l, nil
}

// openAirflow is the client; it asks nobody yet.
func (c Config) openAirflow(o Options) (*dagrun.Client, error) {
	a := dagrun.Config{Endpoint: c.Airflow.Endpoint, DAG: c.Airflow.DAG, Logger: o.Logger}
	err := readSecrets(o.Env, secret{"airflow.username_env", c.Airflow.UsernameEnv, &a.Username}, secret{"airflow.password_env", c.Airflow.PasswordEnv, &a.Password})
	if err != nil {
		return nil, err
	}
	client, err := dagrun.New(a)
	if err != nil {
		return nil, fmt.Errorf("airflow: %w", err)
	}
	return client, nil
}
