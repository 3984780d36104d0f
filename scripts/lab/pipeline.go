package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"
)

// PipelineOptions say what lightning pipeline to prepare; the zero value has three years of few synthetic tiles.
type PipelineOptions struct {
	Name     string   // of the pipeline, and of its tables' schema; "" = lightning
	Database string   // of the target, and of the fence of its job; "" = lightning
	Group    string   // role that holds the job's rights; "" = lightning
	Host     string   // of the sandbox; "" = Hub
	From, To int      // years; 0 = 2016, 2018
	Scale    float64  // of the real number of strikes, up to 1; 0 = 0.001
	Objects  string   // files in Google Cloud Storage to take instead of the sandbox's tables, such as tiles-{chunk}.csv; see Put
	PartSize string   // of uploads to S3; "" = 5MiB, S3's smallest
	Parallel int      // parts at a time; 0 = 4
	Readers  []string // roles that may read the views; see AddReader
	Airflow  string   // URL of the Airflow whose DAG PipelineDAG does the work; "" = duoetl does it itself. See WorkerEnv

	Engine map[string]any // as duoetl's configuration has it; nil = duoetl's own default
}

func (o PipelineOptions) complete() PipelineOptions {
	for _, d := range []struct {
		into *string
		text string
	}{{&o.Name, "lightning"}, {&o.Database, "lightning"}, {&o.Group, "lightning"}, {&o.Host, Hub}, {&o.PartSize, "5MiB"}} {
		if *d.into == "" {
			*d.into = d.text
		}
	}
	if o.From == 0 {
		o.From, o.To = 2016, 2018
	}
	if o.Scale == 0 {
		o.Scale = 0.001
	}
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	return o
}

// Pipeline is what job etl needs around it: a sandbox, which is S3, Google Cloud Storage and BigQuery in one process, a database
// of its own in the lab's Postgres, and a configuration for each host. See Job and Init.
type Pipeline struct {
	Options PipelineOptions // complete
	Sandbox *Process

	lab   *Lab
	store *Metastore
	cloud sandboxes
	dir   string
	bin   string
}

// sandboxes is where the sandbox's servers are, as it says itself.
type sandboxes struct {
	S3        string `json:"s3"`
	GCS       string `json:"gcs"`
	BigQuery  string `json:"bigquery"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// PipelineDAG is the id of the pipeline's DAG, in etl/dags.
const PipelineDAG = "lightning"

// Buckets of the sandbox.
const (
	stagingBucket = "staging" // in Google Cloud Storage
	lakeBucket    = "lake"    // in S3
)

// NewPipeline builds duoetl and duosandbox, starts the sandbox, makes the database and writes the configurations. The fence in
// the database is made by NewCluster with a job of Job's; then call Init.
func (l *Lab) NewPipeline(ctx context.Context, store *Metastore, options PipelineOptions) (*Pipeline, error) {
	p := &Pipeline{Options: options.complete(), lab: l, store: store, dir: filepath.Join(l.Dir, "etl")}
	root, err := Root()
	if err != nil {
		return nil, err
	}
	p.bin = filepath.Join(root, "bin")
	if err := goBuild(ctx, root, p.bin, "./cmd/duoetl", "./cmd/duosandbox"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of the pipeline: %w", err)
	}
	if err := errors.Join(p.startSandbox(ctx), store.AddDatabase(ctx, p.Options.Database)); err != nil {
		return nil, err
	}
	return p, p.Configure()
}

func (p *Pipeline) program() string { return filepath.Join(p.bin, "duoetl") }

// LakeDir is where the sandbox keeps what the pipeline has in S3, as files.
func (p *Pipeline) LakeDir() string {
	return filepath.Join(p.dir, "cloud", "s3", "objects", lakeBucket, p.Options.Name)
}

func (p *Pipeline) startSandbox(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	host, began := p.lab.Host(p.Options.Host), time.Now()
	if host == nil {
		return fmt.Errorf("start sandbox on %q: no such host", p.Options.Host)
	}
	at := host.Addr + ":0"
	var err error
	p.Sandbox, err = host.Start(Spec{Name: "duosandbox", Dir: p.dir, Args: []string{
		filepath.Join(p.bin, "duosandbox"), "--dir", filepath.Join(p.dir, "cloud"), "--open", "--faults", "-o", "json",
		"--s3", at, "--gcs", at, "--bigquery", at, "--s3-bucket", lakeBucket, "--gcs-bucket", stagingBucket, "--generation", "2",
		"--years", fmt.Sprintf("%d-%d", p.Options.From, p.Options.To), "--scale", fmt.Sprint(p.Options.Scale),
	}})
	if err != nil {
		return err
	}
	err = p.Sandbox.await(ctx, "the sandbox", func(context.Context) error {
		log, err := os.ReadFile(p.Sandbox.LogPath())
		if err != nil {
			return err
		}
		return readiness(log, &p.cloud)
	})
	p.lab.logger.Info("sandbox ready", "took", time.Since(began))
	return err
}

// readiness reads the line of JSON that says where the servers are.
func readiness(log []byte, into *sandboxes) error {
	lines := bufio.NewScanner(bytes.NewReader(log))
	for lines.Scan() {
		if json.Unmarshal(lines.Bytes(), into) == nil && into.S3 != "" {
			return nil
		}
	}
	return errors.New("it has not said where its servers are")
}

// Configure writes duoetl's configuration for each host, as the options are now. Each has a folder for work of its own, as
// machines do. A duoetl that runs has read the old one.
func (p *Pipeline) Configure() error {
	var errs []error
	for host := range p.lab.hosts {
		errs = append(errs, p.ConfigureHost(host))
	}
	return errors.Join(errs...)
}

// ConfigureHost is Configure for one host; that of Hub is for Run.
func (p *Pipeline) ConfigureHost(host string) error {
	text, err := yaml.Marshal(p.config(host))
	if err != nil {
		return fmt.Errorf("encode configuration of duoetl: %w", err)
	}
	next := p.ConfigPath(host) + ".new"
	if err := errors.Join(os.WriteFile(next, text, 0o644), os.Rename(next, p.ConfigPath(host))); err != nil {
		return fmt.Errorf("write configuration of duoetl: %w", err)
	}
	return nil
}

// ConfigPath is duoetl's configuration on a host, Hub included.
func (p *Pipeline) ConfigPath(host string) string { return filepath.Join(p.dir, "etl-"+host+".yaml") }

func (p *Pipeline) config(host string) map[string]any {
	o := p.Options
	source := map[string]any{"synthetic": true, "window": map[string]any{"from": o.From, "to": o.To}}
	if o.Objects != "" {
		source["kind"], source["objects"] = "gcs", o.Name+"/"+o.Objects
	} else {
		source["kind"], source["project"], source["endpoint"] = "bigquery", "lab", p.cloud.BigQuery
		source["table"] = "bigquery-public-data.noaa_lightning.lightning_%d"
	}
	config := map[string]any{
		"pipeline": o.Name, "source": source, "transfer": map[string]any{"parallel": o.Parallel},
		"stages": map[string]any{
			"gcs": map[string]any{"bucket": stagingBucket, "prefix": o.Name, "endpoint": p.cloud.GCS},
			"s3": map[string]any{
				"bucket": lakeBucket, "prefix": o.Name, "endpoint": p.cloud.S3, "part_size": o.PartSize,
				"access_key_env": "LAKE_ACCESS_KEY", "secret_key_env": "LAKE_SECRET_KEY",
			},
			"work": filepath.Join(p.dir, "work-"+host),
		},
		"load": map[string]any{"group": o.Group, "schema": p.views(), "readers": o.Readers},
	}
	if o.Engine != nil {
		config["engine"] = o.Engine
	}
	if o.Airflow != "" {
		config["driver"], config["airflow"] = "airflow", map[string]any{"endpoint": o.Airflow, "dag": PipelineDAG}
	}
	return config
}

// SparkEngine is Spark as scripts/setup has installed it, for PipelineOptions.Engine: in the machine of whoever adds up, with two threads.
func SparkEngine() (map[string]any, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	cache := filepath.Join(root, ".cache", "spark")
	if _, err := os.Stat(filepath.Join(cache, "home")); err != nil {
		return nil, fmt.Errorf("find Spark: %w; run scripts/setup spark", err)
	}
	return map[string]any{"kind": "spark", "threads": 2, "spark": map[string]any{
		"home": filepath.Join(cache, "home"), "jars": filepath.Join(cache, "jars"), "python": "/usr/bin/python3.11", "memory": "512MiB",
	}}, nil
}

// WorkerEnv is what Airflow's workers need for the tasks of PipelineDAG, for AirflowOptions.Prepare. They work with Hub's configuration.
func (p *Pipeline) WorkerEnv() map[string]string {
	env := map[string]string{"DUOETL": p.program(), "DUOETL_CONFIG": p.ConfigPath(Hub)}
	maps.Copy(env, p.keys())
	return env
}

func (p *Pipeline) keys() map[string]string {
	return map[string]string{"LAKE_ACCESS_KEY": p.cloud.AccessKey, "LAKE_SECRET_KEY": p.cloud.SecretKey}
}

// Job is the job that runs the pipeline; its name in the cluster has to be etl. Follow and Schedule are the caller's. A slot whose
// data have to be looked at (exit code 3) is not tried again.
func (p *Pipeline) Job() Job {
	return Job{
		Kind: "command", Command: []string{p.program(), "run", "-o", "json", "--config", p.ConfigPath("{node}")},
		Env: p.keys(), Group: p.Options.Group, Database: p.Options.Database, NoRetry: []int{3},
	}
}

// Init makes the tables, as the administrator of the database.
func (p *Pipeline) Init(ctx context.Context) error {
	_, err := p.Run(ctx, "init")
	return err
}

// Run runs duoetl to its end on the hub, as the administrator of the database and not as the job; output is what it prints.
func (p *Pipeline) Run(ctx context.Context, args ...string) (output string, err error) {
	admin, err := pgx.ParseConfig(p.Admin())
	if err != nil {
		return "", fmt.Errorf("run duoetl: %w", err)
	}
	cmd := exec.CommandContext(ctx, p.program(), append(args, "--config", p.ConfigPath(Hub))...)
	cmd.Env = append(cleanEnv(), "PGHOST="+admin.Host, fmt.Sprintf("PGPORT=%d", admin.Port), "PGUSER="+admin.User,
		"PGPASSWORD="+admin.Password, "PGDATABASE="+admin.Database, "PGSSLMODE=disable")
	for name, value := range p.keys() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(text), fmt.Errorf("run duoetl %s: %w: %s", args[0], err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("run duoetl %s: %w", args[0], err)
	}
	return string(text), nil
}

// Admin is the pipeline's database as a URL for the superuser.
func (p *Pipeline) Admin() string { return p.store.AdminOf(p.Options.Database) }

// Totals count tiles and strikes.
type Totals struct{ Rows, Strikes int64 }

// Expected is what the generator says that the years come to, by itself and without the sandbox.
func (p *Pipeline) Expected(ctx context.Context) (Totals, error) {
	dir, err := os.MkdirTemp(p.dir, "synth-")
	if err != nil {
		return Totals{}, fmt.Errorf("make folder for tiles: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is in the lab's own
	o := p.Options
	text, err := p.Run(ctx, "synth", "--dir", dir, "-o", "json", "--from", fmt.Sprint(o.From), "--to", fmt.Sprint(o.To), "--scale", fmt.Sprint(o.Scale))
	if err != nil {
		return Totals{}, err
	}
	var files []struct{ Totals Totals }
	if err := json.Unmarshal([]byte(text), &files); err != nil {
		return Totals{}, fmt.Errorf("decode what duoetl synth says: %w", err)
	}
	var sum Totals
	for _, f := range files {
		sum.Rows += f.Totals.Rows
		sum.Strikes += f.Totals.Strikes
	}
	return sum, nil
}

// Loaded is what the tables add up to, each of them: an error if they differ.
func (p *Pipeline) Loaded(ctx context.Context, conn *pgx.Conn) (Totals, error) {
	var day, month, cell Totals
	err := conn.QueryRow(ctx, strings.ReplaceAll(`SELECT coalesce(d.tiles, 0), coalesce(d.strikes, 0), coalesce(m.tiles, 0), coalesce(m.strikes, 0), coalesce(c.tiles, 0), coalesce(c.strikes, 0)
FROM (SELECT sum(tiles)::bigint AS tiles, sum(strikes)::bigint AS strikes FROM {}.day) d,
  (SELECT sum(tiles)::bigint AS tiles, sum(strikes)::bigint AS strikes FROM {}.month) m,
  (SELECT sum(tiles)::bigint AS tiles, sum(strikes)::bigint AS strikes FROM {}.cell_month) c`, "{}", p.Options.Name)).
		Scan(&day.Rows, &day.Strikes, &month.Rows, &month.Strikes, &cell.Rows, &cell.Strikes)
	if err == nil && (day != month || day != cell) {
		err = fmt.Errorf("days %+v, months %+v, cells %+v", day, month, cell)
	}
	if err != nil {
		return Totals{}, fmt.Errorf("add up tables: %w", err)
	}
	return day, nil
}

// Hash is the sha256 of all rows of the tables, in order.
func (p *Pipeline) Hash(ctx context.Context, conn *pgx.Conn) (string, error) {
	var hash string
	err := conn.QueryRow(ctx, strings.ReplaceAll(`SELECT encode(sha256(convert_to(coalesce(string_agg(line, E'\n' ORDER BY line), ''), 'UTF8')), 'hex') FROM (
SELECT 'day ' || t::text AS line FROM {}.day t UNION ALL SELECT 'month ' || t::text FROM {}.month t UNION ALL SELECT 'cell ' || t::text FROM {}.cell_month t) every`,
		"{}", p.Options.Name)).Scan(&hash)
	if err != nil {
		return "", fmt.Errorf("hash tables: %w", err)
	}
	return hash, nil
}
