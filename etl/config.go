package etl

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/tile"
)

// Config is the file that duoetl is started with. Unknown keys are refused. It holds no secret, only the names of the
// environment variables that do.
type Config struct {
	// Pipeline is the name in the ledger and of the tables' schema; default lightning.
	Pipeline string `yaml:"pipeline" json:"pipeline"`
	// Job is the row of duoflow.fence; default etl. DUOFLOW_JOB, which duoflowd sets, wins.
	Job string `yaml:"job" json:"job"`
	// Driver is builtin, duoetl does the steps itself, or airflow, a DAG does. See Driver.
	Driver   string   `yaml:"driver" json:"driver"`
	Airflow  Airflow  `yaml:"airflow" json:"airflow"`
	Source   Source   `yaml:"source" json:"source"`
	Stages   Stages   `yaml:"stages" json:"stages"`
	Transfer Transfer `yaml:"transfer" json:"transfer"`
	Engine   Engine   `yaml:"engine" json:"engine"`
	Load     Load     `yaml:"load" json:"load"`
	Quality  Quality  `yaml:"quality" json:"quality"`
}

// Source is where the tiles come from.
type Source struct {
	// Kind is bigquery, or gcs: somebody else puts the files into the bucket of Stages.GCS.
	Kind string `yaml:"kind" json:"kind"`
	// Objects is how the files of kind gcs are called: {chunk} is 2018 or 202005, * anything but a slash.
	Objects string `yaml:"objects" json:"objects"`
	// Project pays for the jobs.
	Project string `yaml:"project" json:"project"`
	// Table is project.dataset.table; a %d in the table's name is the year.
	Table string `yaml:"table" json:"table"`
	// Location is the dataset's; empty: as the table says.
	Location string `yaml:"location" json:"location"`
	// Endpoint is another server than Google's, such as a sandbox.
	Endpoint string `yaml:"endpoint" json:"endpoint"`
	Window   Window `yaml:"window" json:"window"`
	// Synthetic says that the tiles are made up, of a source that does not say so itself: BigQuery does in a table's description,
	// Google Cloud Storage in an object's metadata. It shows in comments of tables and in status.
	Synthetic bool `yaml:"synthetic" json:"synthetic"`
	// Encoding of the text; default utf-8. See package nldn.
	Encoding string `yaml:"encoding" json:"encoding"`
}

// Window is the years or months, both included, that the pipeline keeps up to date.
type Window struct {
	From string `yaml:"from" json:"from"` // 1987, or 2020-05
	To   string `yaml:"to" json:"to"`     // as From, or latest: the month before the running one
	// RefreshLast: only so many of the last chunks are looked at again once they are published; 0 = all. For a table that
	// changes daily, of which each look at an old year would be a query that is billed.
	RefreshLast int `yaml:"refresh_last" json:"refresh_last"`
}

// Stages are the places on the way.
type Stages struct {
	GCS GCS `yaml:"gcs" json:"gcs"`
	S3  S3  `yaml:"s3" json:"s3"`
	// Work is a folder for files in the making; it may be lost at any time. Default: below the system's temporary one.
	Work string `yaml:"work" json:"work"`
}

// GCS is the bucket into which BigQuery writes.
type GCS struct {
	Bucket   string `yaml:"bucket" json:"bucket"`
	Prefix   string `yaml:"prefix" json:"prefix"`
	Endpoint string `yaml:"endpoint" json:"endpoint"`
}

// S3 is the bucket that everything is kept in.
type S3 struct {
	Bucket   string `yaml:"bucket" json:"bucket"`
	Prefix   string `yaml:"prefix" json:"prefix"`
	Region   string `yaml:"region" json:"region"`
	Endpoint string `yaml:"endpoint" json:"endpoint"`
	// AccessKeyEnv and SecretKeyEnv name the variables with the keys; default: whatever the AWS tools would use.
	AccessKeyEnv string `yaml:"access_key_env" json:"access_key_env"`
	SecretKeyEnv string `yaml:"secret_key_env" json:"secret_key_env"`
	// Checksums is auto or required; see package objects.
	Checksums string `yaml:"checksums" json:"checksums"`
	PartSize  Size   `yaml:"part_size" json:"part_size"`
}

// Transfer bounds the copy.
type Transfer struct {
	Parallel int `yaml:"parallel" json:"parallel"` // parts at a time; default 4
	Tries    int `yaml:"tries" json:"tries"`       // of a call to S3 that fails in passing; default 8, about half a minute
}

// Engine adds up.
type Engine struct {
	Kind    string `yaml:"kind" json:"kind"` // duckdb, in this process, or spark
	Memory  Size   `yaml:"memory" json:"memory"`
	Threads int    `yaml:"threads" json:"threads"` // default: all processors
	Spark   Spark  `yaml:"spark" json:"spark"`
}

// Load is the target.
type Load struct {
	// DSNEnv names the variable with the database's DSN; default: PGSERVICE, PGSERVICEFILE and the other variables of libpq.
	DSNEnv string `yaml:"dsn_env" json:"dsn_env"`
	// Schema is that of the views; default public.
	Schema string `yaml:"schema" json:"schema"`
	// Group is the role that gets the rights of the job at `duoetl init`; empty: whoever runs init also runs the job.
	Group string `yaml:"group" json:"group"`
	// Readers may read the views.
	Readers []string `yaml:"readers" json:"readers"`
	// Cell is the edge of a map's cell in tenths of a degree; default 5.
	Cell int `yaml:"cell" json:"cell"`
}

// Quality says what is refused.
type Quality struct {
	// MaxBadRows is how many of the lines may be in quarantine, 0..1; default 0.001.
	MaxBadRows float64 `yaml:"max_bad_rows" json:"max_bad_rows"`
	// AllowEmpty takes a chunk without rows.
	AllowEmpty bool `yaml:"allow_empty" json:"allow_empty"`
}

// Kinds of source.
const (
	KindBigQuery = "bigquery" // chunks are extracted by jobs
	KindGCS      = "gcs"      // they are in Google Cloud Storage already
)

const latest = "latest"

// LoadConfig reads, completes and checks a configuration file. A relative path in it is relative to the file.
func LoadConfig(file string) (Config, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := ParseConfig(raw, filepath.Dir(file))
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", file, err)
	}
	return c, nil
}

// ParseConfig is LoadConfig for text; base is where relative paths start. All that is wrong is reported together, as Problems.
func ParseConfig(raw []byte, base string) (Config, error) {
	c := Config{Quality: Quality{MaxBadRows: 0.001}}
	p := &Problems{}
	if p.read(raw, &c) {
		c.complete(base)
		c.check(p)
	}
	if len(p.List) > 0 {
		return Config{}, p
	}
	return c, nil
}

func (c *Config) complete(base string) {
	for _, d := range []struct {
		into *string
		text string
	}{
		{&c.Pipeline, "lightning"}, {&c.Job, "etl"}, {&c.Driver, DriverBuiltin}, {&c.Source.Kind, KindBigQuery},
		{&c.Source.Window.To, latest}, {&c.Stages.S3.Region, "us-east-1"},
		{&c.Stages.S3.Checksums, "auto"}, {&c.Engine.Kind, aggregate.DuckDB}, {&c.Load.Schema, "public"},
		{&c.Stages.Work, filepath.Join(os.TempDir(), "duoetl-"+c.Pipeline)},
	} {
		if *d.into == "" {
			*d.into = d.text
		}
	}
	c.Airflow.complete(c.Job)
	if !filepath.IsAbs(c.Stages.Work) {
		if absolute, err := filepath.Abs(filepath.Join(base, c.Stages.Work)); err == nil {
			c.Stages.Work = absolute
		}
	}
	for _, d := range []struct {
		into *int
		n    int
	}{
		{&c.Transfer.Parallel, 4}, {&c.Transfer.Tries, 8}, {&c.Engine.Threads, runtime.NumCPU()}, {&c.Load.Cell, aggregate.DefaultCell},
	} {
		if *d.into == 0 {
			*d.into = d.n
		}
	}
	if c.Stages.S3.PartSize == 0 {
		c.Stages.S3.PartSize = 16 << 20
	}
	if c.Engine.Memory == 0 {
		c.Engine.Memory = 512 << 20
	}
}

// plainName needs no quotes in SQL.
var plainName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func (c *Config) check(p *Problems) {
	want := func(key string, ok bool, format string, args ...any) {
		if !ok && !p.has(key) {
			p.add(key, format, args...)
		}
	}
	want("pipeline", plainName.MatchString(c.Pipeline), "%q: small letters, digits and _ only, at most 63", c.Pipeline)
	want("pipeline", c.Pipeline != "duoflow" && c.Pipeline != "public" && c.Pipeline != c.Load.Schema, "the tables want a schema of their own, not %q", c.Pipeline)
	c.Airflow.check(c, want)
	c.Engine.check(c, want)
	c.Source.check(want)
	c.Source.Window.check(want)
	want("stages.gcs.bucket", c.Stages.GCS.Bucket != "", "missing")
	want("stages.s3.bucket", c.Stages.S3.Bucket != "", "missing")
	want("stages.s3.checksums", c.Stages.S3.Checksums == "auto" || c.Stages.S3.Checksums == "required", "%q is neither auto nor required", c.Stages.S3.Checksums)
	want("stages.s3.part_size", c.Stages.S3.PartSize >= 5<<20 && c.Stages.S3.PartSize <= 1<<30, "%s is not within 5MiB..1GiB, as S3 wants it", c.Stages.S3.PartSize)
	want("stages.s3.access_key_env", (c.Stages.S3.AccessKeyEnv == "") == (c.Stages.S3.SecretKeyEnv == ""), "give both access_key_env and secret_key_env, or neither")
	want("transfer.parallel", c.Transfer.Parallel >= 1 && c.Transfer.Parallel <= 64, "%d is not within 1..64", c.Transfer.Parallel)
	want("transfer.tries", c.Transfer.Tries >= 1 && c.Transfer.Tries <= 100, "%d is not within 1..100", c.Transfer.Tries)
	want("load.schema", plainName.MatchString(c.Load.Schema), "%q: small letters, digits and _ only, at most 63", c.Load.Schema)
	want("load.cell", c.Load.Cell >= 1 && c.Load.Cell <= 900, "%d is not within 1..900 tenths of a degree", c.Load.Cell)
	want("quality.max_bad_rows", c.Quality.MaxBadRows >= 0 && c.Quality.MaxBadRows <= 1, "%v is not within 0..1", c.Quality.MaxBadRows)
}

func (s Source) check(want func(string, bool, string, ...any)) {
	switch s.Kind {
	case KindBigQuery:
		want("source.project", s.Project != "", "missing: the project that pays for the jobs")
		want("source.table", len(strings.Split(s.Table, ".")) == 3, "%q is not project.dataset.table", s.Table)
		want("source.objects", s.Objects == "", "is for kind gcs")
	case KindGCS:
		_, err := path.Match(s.Objects, "")
		want("source.objects", err == nil && strings.Contains(s.Objects, "{chunk}"), "%q: want a name with {chunk} in it, such as nldn-tiles-{chunk}.csv.gz", s.Objects)
		want("source.table", s.Table == "", "is for kind bigquery")
	default:
		want("source.kind", false, "%q is unknown; there are bigquery and gcs", s.Kind)
	}
}

func (w Window) check(want func(string, bool, string, ...any)) {
	from, err := tile.ParseChunk(w.From)
	want("source.window.from", err == nil, "%q is neither a year (1987) nor a month (2020-05)", w.From)
	want("source.window.refresh_last", w.RefreshLast >= 0, "%d is negative", w.RefreshLast)
	if w.To == latest {
		return
	}
	to, errTo := tile.ParseChunk(w.To)
	want("source.window.to", errTo == nil, "%q is neither a year (2020), nor a month (2020-05), nor latest", w.To)
	want("source.window.to", err != nil || errTo != nil || to.Last() >= from.First(), "%s ends before %s begins", w.To, w.From)
}

// chunks are those of the window at a time: a year each, and months of the running year.
func (w Window) chunks(now time.Time) []tile.Chunk {
	to := tile.Chunk(w.To)
	if w.To == latest {
		// The month before the running one.
		to = tile.Chunk(now.UTC().AddDate(0, 0, -now.UTC().Day()).Format("2006-01"))
	}
	return tile.ChunksBetween(tile.Chunk(w.From), to)
}
