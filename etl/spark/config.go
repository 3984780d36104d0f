package spark

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Config says which Spark, how much of it, and where it reads. Dir is all it needs.
type Config struct {
	// Master is local[N], or spark://host:port of a standalone cluster; "" = local with as many threads as there are processors.
	Master string

	// Home is Spark's folder, of a distribution or of the Python package; "" = SPARK_HOME, else where Python finds pyspark.
	Home string

	// Python is the interpreter for job.py, 3.10 or newer; "" = python3.
	Python string

	// Java is a Java's folder, 17 or newer; "" = JAVA_HOME, else the java of the PATH.
	Java string

	// Jars is a folder with hadoop-aws and what it needs; "" = they are among Spark's own.
	Jars string

	// Dir is for Spark's temporary files and the results; made if missing.
	Dir string

	// Name shows in Spark's own pages; "" = duoetl.
	Name string

	// Memory is the heap in bytes of the driver and of each executor; 0 = 1 GiB, at least 512 MiB, below which Spark does not start.
	Memory int64

	// Partitions is in how many parts the work is cut, 1..10000; 0 = as many as there are processors here.
	Partitions int

	// Secret is what a standalone cluster authenticates with (spark.authenticate.secret); "" = it does not.
	Secret string

	// Settings are further ones of Spark, such as spark.cores.max=8. None with a secret: they are written to a file.
	Settings []string

	// S3 is where s3a:// leads.
	S3 S3

	// Wait is how long Spark may be without anyone who does the work; 0 = 3 minutes.
	Wait time.Duration

	// Env is for PATH, HOME, SPARK_HOME, JAVA_HOME and Amazon's own variables; nil = os.Getenv.
	Env func(string) string

	// Logger gets what Spark says, at level debug, and a warning when it has to be started again; nil = nothing.
	Logger *slog.Logger
}

// S3 is an account and a server.
type S3 struct {
	Endpoint string // "" = Amazon's
	Region   string // "" = us-east-1

	// AccessKey and SecretKey: both, or none, which finds credentials as Amazon's tools do, on every machine by itself.
	AccessKey, SecretKey string
}

const (
	defaultMemory = 1 << 30
	leastMemory   = 512 << 20 // Spark wants 450 MiB and what it reserves on top
	mostParts     = 10_000
)

var (
	localMaster  = regexp.MustCompile(`^local(\[(\d+|\*)(,\s*\d+)?\])?$`)
	remoteMaster = regexp.MustCompile(`^spark://[^/,\s]+:\d+$`)
	setting      = regexp.MustCompile(`^spark\.[\w.-]+=`)
	confidential = regexp.MustCompile(`(?i)secret|password|token|access[.]?key`) // as Spark's own rule what not to show
)

func (c Config) complete() (Config, error) {
	for _, d := range []struct {
		into *string
		text string
	}{{&c.Master, fmt.Sprintf("local[%d]", runtime.NumCPU())}, {&c.Python, "python3"}, {&c.Name, "duoetl"}, {&c.S3.Region, "us-east-1"}} {
		if *d.into == "" {
			*d.into = d.text
		}
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.Partitions == 0 {
		c.Partitions = runtime.NumCPU()
	}
	if c.Wait == 0 {
		c.Wait = 3 * time.Minute
	}
	if c.Env == nil {
		c.Env = os.Getenv
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var err error
	if c.Dir != "" {
		if c.Dir, err = filepath.Abs(c.Dir); err != nil {
			return c, fmt.Errorf("spark: %w", err)
		}
	}
	return c, c.check()
}

func (c Config) check() error {
	var all []error
	refuse := func(wrong bool, format string, a ...any) {
		if wrong {
			all = append(all, fmt.Errorf(format, a...))
		}
	}
	refuse(!localMaster.MatchString(c.Master) && !remoteMaster.MatchString(c.Master), "master: %q is neither local[N] nor spark://host:port", c.Master)
	refuse(c.Dir == "", "dir: empty")
	refuse(c.Memory < leastMemory, "memory: %d bytes, at least %d", c.Memory, leastMemory)
	refuse(c.Partitions < 1 || c.Partitions > mostParts, "partitions: %d is not within 1..%d", c.Partitions, mostParts)
	refuse(c.Wait < 0, "wait: %v is negative", c.Wait)
	refuse(strings.ContainsAny(c.Secret, "\r\n"), "secret: more than one line")
	refuse((c.S3.AccessKey == "") != (c.S3.SecretKey == ""), "access key and secret key: give both or none")
	for _, s := range c.Settings {
		key, _, _ := strings.Cut(s, "=")
		refuse(!setting.MatchString(s) || strings.ContainsAny(s, "\r\n"), "settings: %q is not like spark.cores.max=8", key)
		refuse(confidential.MatchString(key), "settings: %s may not stand in a configuration", key)
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("spark: %w", err)
	}
	return nil
}

func (c Config) remote() bool { return strings.HasPrefix(c.Master, "spark://") }
