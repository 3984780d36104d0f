package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// DAG is the id of the demo's DAG, in scripts/airflow/dags.
const DAG = "heartbeat_chain"

// AirflowOptions say what Airflow to start; the zero value fits the demo.
type AirflowOptions struct {
	Line        int               // 2 or 3 of Airflow; 0 = 3
	Venv        string            // "" = that of the line, in the repository's .cache
	Concurrency int               // of the worker; 0 = 4
	Chains      int               // of DAG; 0 = 4
	Length      int               // tasks per chain; 0 = 20
	Extra       map[string]string // more environment; wins over the lab's own

	// Prepare is called when the metastore is up and URL is known, before anything of Airflow runs; nil = nothing. What it returns is
	// put into the environment of the services, as Extra is.
	Prepare func(context.Context, *Airflow) (map[string]string, error)
}

// Airflow is everything of Airflow but the scheduler: api-server, dag-processor and a Celery worker on
// the hub. Its services log in as Owner.
type Airflow struct {
	URL     string // of the api-server, without a path
	Process map[string]*Process
	Broker  *Rabbit // with its management API

	line    line
	store   *Metastore
	home    string
	venv    string
	environ map[string]string
	token   string
}

// StartAirflow starts Postgres, RabbitMQ and Airflow's services and returns when the api-server is
// healthy and knows the demo's DAG. No scheduler runs yet.
func (l *Lab) StartAirflow(ctx context.Context, options AirflowOptions) (*Airflow, error) {
	began := time.Now()
	options, err := options.complete()
	if err != nil {
		return nil, err
	}
	var store *Metastore
	var broker *Rabbit
	if store, err = l.StartMetastore(ctx, nil); err != nil {
		return nil, err
	}
	a := &Airflow{line: lineOf(options.Line), store: store, venv: options.Venv, home: filepath.Join(l.Dir, "airflow"), Process: map[string]*Process{}}
	if err := a.configure(l, options); err != nil {
		return nil, err
	}
	if err := a.prepare(ctx, options); err != nil {
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		broker, err = l.StartRabbit(groupCtx, RabbitOptions{Management: true})
		return err
	})
	group.Go(func() error { return a.migrate(groupCtx, l) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	a.Broker, a.environ["AIRFLOW__CELERY__BROKER_URL"] = broker, broker.URL()
	if err := a.startServices(ctx, l); err != nil {
		return nil, err
	}
	l.logger.Info("airflow ready", "url", a.URL, "took", time.Since(began))
	return a, nil
}

func (o AirflowOptions) complete() (AirflowOptions, error) {
	root, err := Root()
	if err != nil {
		return o, err
	}
	if o.Venv == "" {
		o.Venv = filepath.Join(root, ".cache", lineOf(o.Line).venv)
	}
	if _, err := os.Stat(filepath.Join(o.Venv, "bin", "airflow")); err != nil {
		return o, fmt.Errorf("find Airflow: %w; run scripts/setup airflow, or airflow2 for line 2", err)
	}
	for _, number := range []struct {
		value    *int
		fallback int
	}{{&o.Concurrency, 4}, {&o.Chains, 4}, {&o.Length, 20}} {
		if *number.value == 0 {
			*number.value = number.fallback
		}
	}
	return o, nil
}

// configure makes Airflow's environment, all but the broker's URL, with secrets of this run.
func (a *Airflow) configure(l *Lab, options AirflowOptions) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	if err := a.makeHome(); err != nil {
		return err
	}
	host := l.Hub().Addr
	a.URL = "http://" + net.JoinHostPort(host, strconv.Itoa(ports[0]))
	fernet := make([]byte, 32)
	rand.Read(fernet) // never fails: it ends the program instead
	a.environ = map[string]string{
		"AIRFLOW_HOME": a.home,
		"PATH":         filepath.Join(a.venv, "bin") + ":" + os.Getenv("PATH"),

		"AIRFLOW__CORE__EXECUTOR":                       "CeleryExecutor",
		"AIRFLOW__CORE__LOAD_EXAMPLES":                  "False",
		"AIRFLOW__CORE__DAGS_FOLDER":                    filepath.Join(a.home, "dags"),
		"AIRFLOW__CORE__PARALLELISM":                    "32",
		"AIRFLOW__CORE__AUTH_MANAGER":                   "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
		"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
		"AIRFLOW__CORE__FERNET_KEY":                     base64.URLEncoding.EncodeToString(fernet),
		"AIRFLOW__CORE__EXECUTION_API_SERVER_URL":       a.URL + "/execution/",
		"AIRFLOW__API_AUTH__JWT_SECRET":                 rand.Text() + rand.Text(),
		"AIRFLOW__API__SECRET_KEY":                      rand.Text(),
		"AIRFLOW__API__HOST":                            host,
		"AIRFLOW__API__PORT":                            strconv.Itoa(ports[0]),
		"AIRFLOW__API__BASE_URL":                        a.URL,
		"AIRFLOW__API__WORKERS":                         "1",
		"AIRFLOW__LOGGING__BASE_LOG_FOLDER":             filepath.Join(a.home, "logs"),
		"AIRFLOW__CELERY__WORKER_CONCURRENCY":           strconv.Itoa(options.Concurrency),
		"AIRFLOW__CELERY__SYNC_PARALLELISM":             "1",
		"AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES":     "1",
		"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN":           a.store.alchemy("postgresql+psycopg2", Owner),
		"AIRFLOW__CELERY__RESULT_BACKEND":               a.store.alchemy("db+postgresql", Owner),

		"DUOFLOW_DEMO_DSN":    a.store.alchemy("postgresql", "demo_writer"),
		"DUOFLOW_DEMO_CHAINS": strconv.Itoa(options.Chains),
		"DUOFLOW_DEMO_LENGTH": strconv.Itoa(options.Length),
	}
	maps.Copy(a.environ, a.line.environ(host, strconv.Itoa(ports[0])))
	maps.Copy(a.environ, options.Extra)
	return nil
}

// makeHome makes Airflow's home, with the repository's DAGs in it.
func (a *Airflow) makeHome() error {
	root, err := Root()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(a.home, "dags"), 0o755); err != nil {
		return fmt.Errorf("make Airflow's home: %w", err)
	}
	for _, dag := range a.line.dags {
		if err := os.Symlink(filepath.Join(root, a.line.file(dag)), filepath.Join(a.home, "dags", dag+".py")); err != nil {
			return fmt.Errorf("make Airflow's home: %w", err)
		}
	}
	if a.line.login {
		return nil
	}
	if err := os.WriteFile(filepath.Join(a.home, "webserver_config.py"), []byte(everybody), 0o600); err != nil {
		return fmt.Errorf("make Airflow's home: %w", err)
	}
	return nil
}

func (a *Airflow) prepare(ctx context.Context, options AirflowOptions) error {
	if options.Prepare == nil {
		return nil
	}
	more, err := options.Prepare(ctx, a)
	maps.Copy(a.environ, more)
	return err
}

func (a *Airflow) migrate(ctx context.Context, l *Lab) error {
	began := time.Now()
	p, err := l.Hub().Start(a.spec("migrate", "db", "migrate"))
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("migrate metastore: %w", ctx.Err()), p.Kill())
	}
	if p.Err() != nil {
		return fmt.Errorf("migrate metastore: %w: %s", p.Err(), p.LogTail(8))
	}
	l.logger.Info("metastore migrated", "took", time.Since(began))
	return nil
}

func (a *Airflow) startServices(ctx context.Context, l *Lab) error {
	for _, service := range a.line.services {
		p, err := l.Hub().Start(a.spec(service.name, service.args...))
		if err != nil {
			return err
		}
		a.Process[service.name] = p
	}
	if err := a.Process["api-server"].await(ctx, "api-server", a.healthy); err != nil {
		return err
	}
	for _, dag := range a.line.dags {
		if err := a.Process["dag-processor"].await(ctx, "DAG "+dag, a.knows(dag)); err != nil {
			return err
		}
	}
	return a.Process["worker"].await(ctx, "worker", a.workerReady)
}

// workerReady looks for the line that Celery writes once it consumes.
func (a *Airflow) workerReady(context.Context) error {
	text, err := os.ReadFile(a.Process["worker"].LogPath())
	if err != nil {
		return err
	}
	if !celeryReady.Match(text) {
		return errors.New("it does not consume yet")
	}
	return nil
}

// spec is an airflow command for the hub.
func (a *Airflow) spec(name string, args ...string) Spec {
	return Spec{Name: name, Args: append([]string{filepath.Join(a.venv, "bin", "airflow")}, args...), Env: a.Env(), Dir: a.home}
}

// Scheduler is a plain `airflow scheduler`, to start on any host: what people run without duoflow.
func (a *Airflow) Scheduler() Spec { return a.spec("scheduler", "scheduler", "--skip-serve-logs") }
