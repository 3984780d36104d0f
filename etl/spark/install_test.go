package spark

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
)

func TestRefusals(t *testing.T) {
	for says, c := range map[string]Config{
		`"yarn" is neither`:        {Dir: "/x", Master: "yarn"},
		`"spark://h" is neither`:   {Dir: "/x", Master: "spark://h"},
		"dir: empty":               {},
		"at least":                 {Dir: "/x", Memory: 1},
		"partitions: 10001":        {Dir: "/x", Partitions: 10_001},
		"give both":                {Dir: "/x", S3: S3{AccessKey: "a"}},
		"not like":                 {Dir: "/x", Settings: []string{"cores=8"}},
		"secret may not stand":     {Dir: "/x", Settings: []string{"spark.authenticate.secret=x"}},
		"access.key may not stand": {Dir: "/x", Settings: []string{"spark.hadoop.fs.s3a.access.key=x"}},
		"wait: -1s":                {Dir: "/x", Wait: -time.Second},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %q", err, says)
		}
	}
	for _, master := range []string{"local", "local[2]", "local[*]", "local[4, 2]", "spark://10.0.0.1:7077", "spark://[::1]:7077"} {
		if _, err := New(Config{Dir: "/x", Master: master}); err != nil {
			t.Errorf("%s: %v", master, err)
		}
	}
}

// TestWhatIsMissingIsTold takes one thing after the other away, or puts a wrong one in its place.
func TestWhatIsMissingIsTold(t *testing.T) {
	for says, spoil := range map[string]func(*Config){
		"python no-such-python is not there": func(c *Config) { c.Python = "no-such-python" },
		"java at":                            func(c *Config) { c.Java = "/nowhere" },
		"is 11.0.2: Spark 4 wants 17": func(c *Config) {
			script(t, filepath.Join(c.Java, "bin", "java"), `echo 'openjdk version "11.0.2" 2019' >&2`)
		},
		"does not say which version": func(c *Config) { script(t, filepath.Join(c.Java, "bin", "java"), "echo hello") },
		"there is no Spark in":       func(c *Config) { c.Home = t.TempDir() },
		"false has no pyspark":       func(c *Config) { c.Home, c.Python = "", "false" },
		"this is for Spark 4": func(c *Config) {
			if err := os.Rename(filepath.Join(c.Home, "jars", "spark-core_2.13-4.1.4.jar"), filepath.Join(c.Home, "jars", "spark-core_2.12-3.5.1.jar")); err != nil {
				t.Fatal(err)
			}
		},
		"no hadoop-aws-3.4.2.jar in": func(c *Config) { c.Jars = t.TempDir() },
		"does not fit Spark 4.1.4, whose Hadoop is 3.4.2": func(c *Config) {
			c.Jars = t.TempDir()
			touch(t, c.Jars, "hadoop-aws-3.3.4.jar")
		},
		"no master answers at spark://127.0.0.1:": func(c *Config) { c.Master = "spark://" + closedPort(t) },
	} {
		c, _ := acting(t, "hangs")
		c.Env = func(name string) string {
			if name == "SPARK_HOME" {
				return ""
			}
			return os.Getenv(name)
		}
		spoil(&c)
		e, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Version(t.Context())
		if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %q", err, says)
		}
		if _, again := e.Aggregate(t.Context(), job()); !errors.Is(again, ErrMissing) {
			t.Errorf("aggregate: %v", again)
		}
	}
	c, _ := acting(t, "hangs")
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := e.Version(t.Context()); err != nil || !strings.HasPrefix(v, "spark 4.1.4, java 17.0.15, hadoop 3.4.2, local[") {
		t.Errorf("%q, %v", v, err)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestASocketNeedsAShortName(t *testing.T) {
	c, _ := acting(t, "hangs")
	c.Dir = filepath.Join(c.Dir, strings.Repeat("long", 30))
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = e.Aggregate(t.Context(), job()); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "too long a name") {
		t.Error(err)
	}
	nothingIsLeft(t, c.Dir)
}

func TestSecretsAreInTheEnvironmentOnly(t *testing.T) {
	c, err := Config{Dir: "/x", Secret: "cluster-secret", S3: S3{AccessKey: "key", SecretKey: "very-secret", Endpoint: "http://127.0.0.1:1"}}.complete()
	if err != nil {
		t.Fatal(err)
	}
	c.Env = func(name string) string {
		return map[string]string{"STAGE_DSN": "postgres://u:hidden@h", "AWS_SECRET_ACCESS_KEY": "another", "PATH": "/bin"}[name]
	}
	properties := spell(c.properties("/x/run", "127.0.0.1", install{jars: []string{"/a b,c/d.jar"}}))
	environment := c.environment("/x/run", install{})
	if text := strings.Join(environment, "\n"); strings.Contains(properties, "very-secret") || !strings.Contains(text, "=very-secret\n") ||
		strings.Contains(text, "cluster-secret") || strings.Contains(text, "hidden") || strings.Contains(text, "another") || !strings.Contains(text, "PATH=/bin") {
		t.Errorf("environment:\n%s", text)
	}
	for _, line := range []string{"spark.jars=file:///a%20b%2Cc/d.jar", "spark.authenticate=true", "spark.authenticate.secret=cluster-secret", "spark.hadoop.fs.s3a.endpoint=http://127.0.0.1:1", "spark.ui.port=0"} {
		if !strings.Contains(properties, line+"\n") {
			t.Errorf("no %s in\n%s", line, properties)
		}
	}
}

func TestNamesThatAreNoNames(t *testing.T) {
	for _, bad := range []aggregate.Job{
		{Chunk: "2018"}, {Chunk: "2018", Inputs: []string{"/x*.parquet"}}, {Chunk: "2018", Inputs: []string{"s3a://b/{x}"}},
		{Chunk: "2018", Inputs: []string{"/x"}, CellTenths: 901},
	} {
		if _, _, err := requestOf(bad, 1); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if _, _, err := requestOf(job(), 0); err == nil {
		t.Error("no partitions were taken")
	}
	r, cell, err := requestOf(aggregate.Job{Chunk: "2018", Inputs: []string{"a b", "s3a://b/c"}}, 3)
	if err != nil || cell != aggregate.DefaultCell || !filepath.IsAbs(r.Inputs[0]) || r.Inputs[1] != "s3a://b/c" || r.Partitions != 3 {
		t.Errorf("%+v, %d, %v", r, cell, err)
	}
}

const goodHeader = `{"frames":[{"name":"totals","columns":["tiles","strikes","days"],"rows":1},{"name":"day","columns":["day","strikes","tiles"],"rows":2},` +
	`{"name":"month","columns":["year","month","days","strikes","tiles"],"rows":1},{"name":"cell","columns":["year","month","lat10","lon10","strikes","tiles"],"rows":0}]}` + "\n"

func columnFile(t *testing.T, header string, values ...int64) []byte {
	t.Helper()
	b := bytes.NewBufferString(header)
	if err := binary.Write(b, binary.LittleEndian, values); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestColumns(t *testing.T) {
	good := columnFile(t, goodHeader, 3, 7, 2, 17744, 17745, 5, 2, 2, 1, 2018, 8, 2, 7, 3)
	r, err := decode(bytes.NewReader(good), int64(len(good)))
	if err != nil || r.Totals.Rows != 3 || r.Totals.Strikes != 7 || r.Totals.First.String() != "2018-08-01" || r.Totals.Last.String() != "2018-08-02" {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := r.Day.Values("strikes"); !slices.Equal(got, []int64{5, 2}) || r.Cell.Len() != 0 {
		t.Errorf("%v, %d cells", got, r.Cell.Len())
	}
	for n := range good { // cut anywhere
		if _, err := decode(bytes.NewReader(good[:n]), int64(n)); err == nil {
			t.Errorf("cut at %d: read", n)
		}
	}
	for name, bad := range map[string][]byte{
		"a byte more":         append(slices.Clone(good), 0),
		"other columns":       bytes.Replace(good, []byte(`"tiles","strikes","days"`), []byte(`"strikes","tiles","days"`), 1),
		"another frame first": bytes.Replace(good, []byte(`"totals"`), []byte(`"tatols"`), 1),
		"rows below zero":     bytes.Replace(good, []byte(`"rows":0`), []byte(`"rows":-1`), 1),
		"rows beyond all":     bytes.Replace(good, []byte(`"rows":0`), []byte(`"rows":2305843009213693952`), 1),
		"no totals":           columnFile(t, strings.Replace(goodHeader, `"rows":1`, `"rows":0`, 1), 17744, 17745, 5, 2, 2, 1, 2018, 8, 2, 7, 3),
	} {
		if _, err := decode(bytes.NewReader(bad), int64(len(bad))); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func TestProgress(t *testing.T) {
	jobs := []sparkJob{ // newest first
		{JobGroup: "duoetl-2", Description: "month", NumTasks: 9, NumSkippedTasks: 1, NumActiveTasks: 2, NumCompletedTasks: 3, NumFailedTasks: 1},
		{JobGroup: "duoetl-2", Description: "day", NumTasks: 4, NumCompletedTasks: 4},
		{JobGroup: "duoetl-1", Description: "cell", NumTasks: 100},
	}
	if got := farOf(jobs, "duoetl-2").String(); got != "month, 7 of 12 tasks, 1 tried again" {
		t.Error(got)
	}
	if got := farOf(jobs, "duoetl-3"); got != (far{}) {
		t.Error(got)
	}
	for _, ui := range []string{"", "http://host", "::"} {
		if _, err := newPages(ready{UI: ui, Application: "a"}); err == nil {
			t.Errorf("%q was taken for an address", ui)
		}
	}
	if p, err := newPages(ready{UI: "http://outside:4041", Application: "a b"}); err != nil || p.base != "http://127.0.0.1:4041/api/v1/applications/a%20b" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var s tail
	for range 10_000 {
		if _, err := s.Write([]byte("WARN nothing\n")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.all()); n > keepSaid {
		t.Errorf("%d bytes are kept", n)
	}
	s.secrets = []string{"hush"}
	if _, err := s.Write([]byte("java.lang.OutOfMemoryError: hush\n\tat java.base/java.lang.Thread\nbye\n")); err != nil {
		t.Fatal(err)
	}
	if got := s.last(); got != "java.lang.OutOfMemoryError: ***" {
		t.Error(got)
	}
}
