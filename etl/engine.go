package etl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/spark"
)

// Spark is the engine that works on other machines too. What is empty is as package spark says.
type Spark struct {
	// Master is local[N], or spark://host:port of a standalone cluster; default local with Engine.Threads.
	Master string `yaml:"master" json:"master"`
	// Home is Spark's folder; default SPARK_HOME, else where Python finds pyspark.
	Home string `yaml:"home" json:"home"`
	// Python is the interpreter, default python3; Java the folder of a Java, default JAVA_HOME or that of the PATH.
	Python string `yaml:"python" json:"python"`
	Java   string `yaml:"java" json:"java"`
	// Jars is a folder with hadoop-aws and what it needs; default: they are among Spark's own.
	Jars string `yaml:"jars" json:"jars"`
	// Memory is that of the driver and of each executor; default 1GiB.
	Memory Size `yaml:"memory" json:"memory"`
	// Partitions is in how many parts a chunk is cut; default Engine.Threads.
	Partitions int `yaml:"partitions" json:"partitions"`
	// SecretEnv names the variable with what a cluster authenticates with; default: it does not.
	SecretEnv string `yaml:"secret_env" json:"secret_env"`
	// Wait is how many seconds Spark may be without anyone who works; default 180.
	Wait int `yaml:"wait" json:"wait"`
	// Settings are further ones of Spark, such as spark.cores.max=8.
	Settings []string `yaml:"settings" json:"settings"`
}

// sparkConfig is all that Spark is told; the secrets come later.
func (c Config) sparkConfig() spark.Config {
	s := c.Engine.Spark
	out := spark.Config{
		Master: s.Master, Home: s.Home, Python: s.Python, Java: s.Java, Jars: s.Jars, Memory: int64(s.Memory), Partitions: s.Partitions,
		Wait: time.Duration(s.Wait) * time.Second, Settings: s.Settings, Dir: c.Stages.Work, Name: "duoetl " + c.Pipeline,
		S3: spark.S3{Region: c.Stages.S3.Region, Endpoint: c.Stages.S3.Endpoint},
	}
	if out.Master == "" {
		out.Master = fmt.Sprintf("local[%d]", c.Engine.Threads)
	}
	if out.Partitions == 0 {
		out.Partitions = c.Engine.Threads
	}
	return out
}

func (e Engine) check(c *Config, want func(string, bool, string, ...any)) {
	want("engine.kind", e.Kind == aggregate.DuckDB || e.Kind == aggregate.Spark, "%q is unknown; there are duckdb and spark", e.Kind)
	want("engine.memory", e.Memory >= 64<<20, "%s is too little; at least 64MiB", e.Memory)
	want("engine.threads", e.Threads > 0, "%d is no number of threads", e.Threads)
	if e.Threads > 0 {
		_, err := spark.New(c.sparkConfig())
		want("engine.spark", err == nil, "%s", strings.ReplaceAll(strings.TrimPrefix(fmt.Sprint(err), "spark: "), "\n", "; "))
	}
}

// openSpark is the engine on Spark. Nothing of it is started before it is asked for something.
func (p *Pipeline) openSpark(o Options, s3 objects.S3Config) (*spark.Engine, error) {
	c := p.config.sparkConfig()
	c.Env, c.Logger = o.Env, o.Logger
	c.S3.AccessKey, c.S3.SecretKey = s3.AccessKey, s3.SecretKey
	for _, name := range []string{"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} { // where the store goes then too
		if c.S3.Endpoint == "" {
			c.S3.Endpoint = o.Env(name)
		}
	}
	if name := p.config.Engine.Spark.SecretEnv; name != "" {
		if c.Secret = o.Env(name); c.Secret == "" {
			return nil, &Problems{List: []string{"engine.spark.secret_env: the environment has no " + name}}
		}
	}
	e, err := spark.New(c)
	if err != nil {
		return nil, err
	}
	p.close = append(p.close, e.Close)
	return e, nil
}

// openDuck is the engine in this process.
func (p *Pipeline) openDuck() (aggregate.Engine, error) {
	return aggregate.Open(aggregate.Config{Kind: aggregate.DuckDB, Memory: int64(p.config.Engine.Memory), Threads: p.config.Engine.Threads})
}

// openEngine opens Spark in any case, which costs nothing: DiffEngines compares the two.
func (p *Pipeline) openEngine(o Options, s3 objects.S3Config) (err error) {
	if p.spark, err = p.openSpark(o, s3); err != nil {
		return err
	}
	if p.engine = p.spark; p.config.Engine.Kind == aggregate.DuckDB {
		p.engine, err = p.openDuck()
	}
	return err
}

// sumUp has the engine add up what ingest has made. Spark reads S3 by itself; the objects are never written anew, each page
// of them has a checksum, and their sums are compared with the parser's.
func (r *run) sumUp(ctx context.Context, w *work) (aggregate.Result, error) {
	job := aggregate.Job{
		Chunk: w.chunk, CellTenths: r.p.config.Load.Cell, Dir: r.p.config.Stages.Work,
		Note: func(text string) { r.p.meter.note(StepAggregate, text) },
	}
	if r.p.config.Engine.Kind == aggregate.Spark {
		tiles, ok := object(w.made, extTiles)
		if !ok {
			return aggregate.Result{}, fmt.Errorf("the manifest of ingest of %s names no tiles", w.chunk)
		}
		job.Inputs = []string{r.p.s3a(tiles.Key)}
		return r.p.engine.Aggregate(ctx, job)
	}
	if err := r.fetch(ctx, w); err != nil {
		return aggregate.Result{}, err
	}
	job.Inputs = []string{w.local}
	return r.p.engine.Aggregate(ctx, job)
}

// s3a is an object as Spark calls it.
func (p *Pipeline) s3a(key string) string { return "s3a" + strings.TrimPrefix(p.store.URL(key), "s3") }

// sparkEnds tells whether an error of Spark's would be the same for every chunk.
func sparkEnds(err error) bool {
	return errors.Is(err, spark.ErrMissing) || errors.Is(err, spark.ErrStalled)
}
