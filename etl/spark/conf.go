package spark

import (
	_ "embed" // job.py
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

//go:embed job.py
var jobPy string

// log4j keeps Spark's log to what is wrong, on the way that this program reads.
const log4j = `rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.console.type = Console
appender.console.name = stderr
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n%ex{short}
`

// Names in the folder of a run.
const (
	nameLock   = "lock"
	nameSocket = "socket"
	nameJob    = "job.py"
	nameConf   = "spark.conf"
	nameLog4j  = "log4j2.properties"
	nameTemp   = "temporary"
)

// lay writes the files of a run, for this user's eyes only. Of the secrets the cluster's is in them, because Spark takes it from
// nowhere else; those of S3 are not.
func (c Config) lay(dir, host string, i install) error {
	for _, file := range []struct{ name, text string }{
		{nameJob, jobPy}, {nameLog4j, log4j}, {nameConf, spell(c.properties(dir, host, i))},
	} {
		if err := os.WriteFile(filepath.Join(dir, file.name), []byte(file.text), 0o600); err != nil {
			return fmt.Errorf("write files for spark: %w", err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, nameTemp), 0o700); err != nil {
		return fmt.Errorf("write files for spark: %w", err)
	}
	return nil
}

// properties are Spark's settings, in order; of two of the same name the later holds.
func (c Config) properties(dir, host string, i install) []string {
	memory := fmt.Sprintf("%dm", c.Memory>>20)
	temp := filepath.Join(dir, nameTemp)
	all := []string{
		"spark.master=" + c.Master, "spark.submit.deployMode=client", "spark.app.name=" + c.Name,
		"spark.driver.memory=" + memory, "spark.executor.memory=" + memory,
		"spark.driver.host=" + host, "spark.driver.bindAddress=" + host,
		"spark.local.dir=" + temp, "spark.driver.extraJavaOptions=-Djava.io.tmpdir=" + quoteJava(temp),
		// Its pages and its REST API: a port of Spark's choice on loopback (SPARK_LOCAL_IP), to look at and nothing more.
		"spark.ui.enabled=true", "spark.ui.port=0", "spark.ui.killEnabled=false", "spark.ui.showConsoleProgress=false",
		"spark.ui.retainedJobs=50", "spark.ui.retainedStages=50", "spark.ui.retainedTasks=1000", "spark.sql.ui.retainedExecutions=20",
		// An executor whose driver died without a word lets the cluster have its processors back after a minute.
		"spark.executor.heartbeatInterval=10s", "spark.executor.heartbeat.maxFailures=6",
		"spark.sql.session.timeZone=UTC", "spark.sql.ansi.enabled=true", // a sum that overflows is an error
		"spark.sql.parquet.datetimeRebaseModeInRead=CORRECTED",
		"spark.hadoop.parquet.page.verify-checksum.enabled=true",
		// The number of partitions is the configured one, and small files are cut into so many too.
		"spark.sql.adaptive.coalescePartitions.enabled=false", "spark.sql.files.openCostInBytes=65536",
		// What S3 refuses for good is told within a minute, not after a quarter of an hour.
		"spark.hadoop.fs.s3a.attempts.maximum=5", "spark.hadoop.fs.s3a.retry.limit=5",
		"spark.hadoop.fs.s3a.endpoint.region=" + c.S3.Region,
	}
	if len(i.jars) > 0 {
		all = append(all, "spark.jars="+strings.Join(fileURLs(i.jars), ","))
	}
	if c.S3.Endpoint != "" {
		all = append(all, "spark.hadoop.fs.s3a.endpoint="+c.S3.Endpoint, "spark.hadoop.fs.s3a.path.style.access=true")
	}
	if c.S3.AccessKey == "" {
		all = append(all, "spark.hadoop.fs.s3a.aws.credentials.provider=software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider")
	}
	if c.Secret != "" || !c.remote() { // with a local master Spark makes up a secret of its own
		all = append(all, "spark.authenticate=true", "spark.network.crypto.enabled=true")
	}
	if c.Secret != "" {
		all = append(all, "spark.authenticate.secret="+c.Secret)
	}
	return append(all, c.Settings...)
}

func quoteJava(path string) string { return `"` + path + `"` }

func fileURLs(files []string) []string {
	out := make([]string, len(files))
	for i, name := range files {
		u := url.URL{Scheme: "file", Path: name}
		out[i] = strings.ReplaceAll(u.String(), ",", "%2C") // Spark's list is cut at commas
	}
	return out
}

// spell writes settings as a Java properties file.
func spell(properties []string) string {
	var b strings.Builder
	for _, p := range properties {
		key, value, _ := strings.Cut(p, "=")
		b.WriteString(key + "=" + strings.ReplaceAll(value, `\`, `\\`) + "\n")
	}
	return b.String()
}

// environment is all that Spark gets to see of this program's: nothing of the database. The secrets are here because a
// process's environment is read by its own user only, while everybody reads command lines.
func (c Config) environment(dir string, i install) []string {
	out := []string{
		"JAVA_HOME=" + filepath.Dir(filepath.Dir(i.java)), "SPARK_HOME=" + i.home, "SPARK_CONF_DIR=" + dir, "SPARK_LOCAL_IP=127.0.0.1",
		"SPARK_LOCAL_DIRS=" + filepath.Join(dir, nameTemp), "TMPDIR=" + filepath.Join(dir, nameTemp),
		"PYSPARK_PYTHON=" + i.python, "PYSPARK_DRIVER_PYTHON=" + i.python, "PYTHONUNBUFFERED=1", "LC_ALL=C.UTF-8",
	}
	pass := []string{"PATH", "HOME", "USER"}
	if c.S3.AccessKey == "" {
		pass = append(pass, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONFIG_FILE",
			"AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
			"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
	} else {
		out = append(out, "AWS_ACCESS_KEY_ID="+c.S3.AccessKey, "AWS_SECRET_ACCESS_KEY="+c.S3.SecretKey)
	}
	for _, name := range pass {
		if value := c.Env(name); value != "" {
			out = append(out, name+"="+value)
		}
	}
	return out
}

// secrets are what no text that leaves this package may hold.
func (c Config) secrets() []string {
	var out []string
	for _, s := range []string{c.S3.SecretKey, c.Secret, c.Env("AWS_SECRET_ACCESS_KEY"), c.Env("AWS_SESSION_TOKEN")} {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}
