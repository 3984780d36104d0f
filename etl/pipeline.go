package etl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/dagrun"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/spark"
	"github.com/duoflow/duoflow/etl/warehouse"
)

// Options say how a pipeline is opened.
type Options struct {
	Env    func(string) string // for secrets and for the job's identity; nil = os.Getenv
	Logger *slog.Logger        // nil = discard
	Now    func() time.Time    // nil = time.Now
	Force  bool                // by hand, although a cluster runs the job; see warehouse.Config

	// ReadOnly opens the database to look: no epoch is asked for, and what would write fails. For Plan, Verify, Quarantine, Doctor.
	ReadOnly bool
}

// Pipeline is a configuration with all that it names opened. Run, Plan and the others are not for use at the same time.
type Pipeline struct {
	config   Config
	identity warehouse.Identity
	log      *slog.Logger
	now      func() time.Time
	env      func(string) string
	meter    *Meter

	origins origins
	gcs     *objects.GCS
	store   *objects.Store
	engine  aggregate.Engine
	spark   *spark.Engine // whether it is the engine or not
	target  *warehouse.Warehouse
	dag     *dagrun.Client // of driver airflow
	close   []func()
}

// Open opens the database first: a run whose epoch is over ends before it asks for anything else.
func Open(ctx context.Context, c Config, o Options) (*Pipeline, error) {
	o = o.complete()
	identity, err := Identify(c, o.Env)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{config: c, identity: identity, log: o.Logger, now: o.Now, env: o.Env, meter: &Meter{}}
	if err := p.open(ctx, o); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (o Options) complete() Options {
	if o.Env == nil {
		o.Env = os.Getenv
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Identify says as whom a run writes: what duoflowd has set in the environment, or by hand the configured job without an epoch.
func Identify(c Config, env func(string) string) (warehouse.Identity, error) {
	id := warehouse.Identity{Job: c.Job, Node: env("DUOFLOW_NODE")}
	if job := env("DUOFLOW_JOB"); job != "" {
		id.Job = job
	}
	text := env("DUOFLOW_EPOCH")
	if text == "" {
		return id, nil
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil || epoch == 0 {
		return id, &Problems{List: []string{fmt.Sprintf("DUOFLOW_EPOCH: %q is no epoch", text)}}
	}
	id.Epoch = epoch
	return id, nil
}

func (p *Pipeline) open(ctx context.Context, o Options) error {
	c := p.config
	s3 := objects.S3Config{
		Bucket: c.Stages.S3.Bucket, Prefix: c.Stages.S3.Prefix, Region: c.Stages.S3.Region, Endpoint: c.Stages.S3.Endpoint,
		Checksums: c.Stages.S3.Checksums, PartSize: int64(c.Stages.S3.PartSize), Parallel: c.Transfer.Parallel, Tries: c.Transfer.Tries, Logger: o.Logger,
	}
	load := warehouse.Config{Identity: p.identity, Layout: layout(c), Force: o.Force, ReadOnly: o.ReadOnly, Logger: o.Logger}
	var err error
	if load.DSN, err = c.dsn(o.Env); err != nil {
		return err
	}
	err = readSecrets(o.Env, secret{"stages.s3.access_key_env", c.Stages.S3.AccessKeyEnv, &s3.AccessKey},
		secret{"stages.s3.secret_key_env", c.Stages.S3.SecretKeyEnv, &s3.SecretKey})
	if err != nil {
		return err
	}
	if p.target, err = warehouse.Open(ctx, load); err != nil {
		return err
	}
	p.close = append(p.close, p.target.Close)
	if p.store, err = objects.OpenStore(ctx, s3); err != nil {
		return err
	}
	p.close = append(p.close, p.store.Close)
	if p.gcs, err = objects.OpenGCS(ctx, objects.GCSConfig{Endpoint: c.Stages.GCS.Endpoint}); err != nil {
		return err
	}
	p.close = append(p.close, func() { _ = p.gcs.Close() }) // it was only read
	if err := p.openEngine(o, s3); err != nil {
		return err
	}
	if c.Driver == DriverAirflow {
		if p.dag, err = c.openAirflow(o); err != nil {
			return err
		}
		p.close = append(p.close, p.dag.Close)
	}
	return p.openOrigins(ctx)
}

// secret is a value that the configuration names a variable for.
type secret struct {
	key, name string
	into      *string
}

// readSecrets reports all that are missing together.
func readSecrets(env func(string) string, all ...secret) error {
	var missing Problems
	for _, s := range all {
		if s.name == "" {
			continue
		}
		if *s.into = env(s.name); *s.into == "" {
			missing.add(s.key, "the environment has no %s", s.name)
		}
	}
	if len(missing.List) > 0 {
		return &missing
	}
	return nil
}

func layout(c Config) warehouse.Layout {
	return warehouse.Layout{Pipeline: c.Pipeline, Schema: c.Load.Schema, Group: c.Load.Group, Readers: c.Load.Readers}
}

// Close ends all connections.
func (p *Pipeline) Close() {
	for i := len(p.close) - 1; i >= 0; i-- {
		p.close[i]()
	}
}

// Meter counts the run that is on.
func (p *Pipeline) Meter() *Meter { return p.meter }

// Identity is as whom the pipeline writes.
func (p *Pipeline) Identity() warehouse.Identity { return p.identity }

// SetupSQL is what Init runs, for an administrator to read and run.
func SetupSQL(c Config) (string, error) { return warehouse.SetupSQL(layout(c)) }

// Init makes the ledger, tables and views; harmless when they are there. It needs the rights of the database's administrator.
func (p *Pipeline) Init(ctx context.Context) error { return p.target.Setup(ctx) }

// Reset forgets the selection's Chunks, of which there must be one at least: their rows, and their places in the ledger. It returns those that it
// forgot, after an error too. What is in S3 stays, and is found again by the next run.
func (p *Pipeline) Reset(ctx context.Context, s Selection) ([]string, error) {
	var names []string
	for _, chunk := range s.Chunks {
		if err := p.target.Reset(ctx, chunk); err != nil {
			return names, err
		}
		names = append(names, string(chunk))
	}
	if len(s.Chunks) == 0 {
		return nil, errors.New("reset: no chunk is named")
	}
	return names, nil
}
