//go:build spark

package spark_test

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/spark"
)

const clusterSecret = "secret-of-the-cluster"

// cluster is a standalone master and its workers, processes of their own.
type cluster struct {
	t       *testing.T
	address string
	all     []*daemon
}

// daemon is one of them, with its executors.
type daemon struct {
	cmd  *exec.Cmd
	once sync.Once

	mu  sync.Mutex
	log bytes.Buffer
}

// Write takes the log.
func (d *daemon) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(b)
}

func (d *daemon) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.String()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t}
	t.Cleanup(c.kill)
	m := c.start("org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
	found := regexp.MustCompile(`Starting Spark master at (spark://127\.0\.0\.1:\d+)`)
	until(t, "the master", func() bool {
		at := found.FindStringSubmatch(m.said())
		if at != nil {
			c.address = at[1]
		}
		return at != nil && strings.Contains(m.said(), "New state: ALIVE")
	})
	return c
}

func (c *cluster) master() string { return c.address }

// worker starts one that is registered.
func (c *cluster) worker() *daemon {
	c.t.Helper()
	d := c.start("org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0", "--cores", "2", "--memory", "900m",
		"--work-dir", c.t.TempDir(), c.address)
	until(c.t, "a worker", func() bool { return strings.Contains(d.said(), "Successfully registered with master") })
	return d
}

func (c *cluster) start(class string, args ...string) *daemon {
	c.t.Helper()
	home, _ := installed()
	d := &daemon{cmd: exec.Command(filepath.Join(home, "bin", "spark-class"), append([]string{class}, args...)...)}
	d.cmd.Stdout, d.cmd.Stderr = d, d
	d.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.t.TempDir(), "SPARK_HOME=" + home, "SPARK_LOCAL_IP=127.0.0.1", "SPARK_DAEMON_MEMORY=256m",
		"SPARK_DAEMON_JAVA_OPTS=-Dspark.authenticate=true -Dspark.network.crypto.enabled=true " + quickJava, "_SPARK_AUTH_SECRET=" + clusterSecret,
	}
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	d.cmd.WaitDelay = 5 * time.Second
	if err := d.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.all = append(c.all, d)
	return d
}

// kill ends a daemon and its executors at once.
func (d *daemon) kill() {
	d.once.Do(func() {
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		_ = d.cmd.Wait()
	})
}

func (c *cluster) kill() {
	for _, d := range c.all {
		d.kill()
	}
}

// outcome is what became of a chunk that was begun.
type outcome struct {
	result aggregate.Result
	err    error
}

// begun is a chunk that is at work, and what was last said of its progress.
type begun struct {
	done chan outcome
	said atomic.Value
}

func (w *lake) begin(ctx context.Context, e *spark.Engine, url string) *begun {
	b := &begun{done: make(chan outcome, 1)}
	b.said.Store("")
	go func() {
		r, err := e.Aggregate(ctx, aggregate.Job{Chunk: "2018", Inputs: []string{url}, Note: func(text string) { b.said.Store(text) }})
		b.done <- outcome{r, err}
	}()
	return b
}

var counted = regexp.MustCompile(`^spark: totals, \d+ of \d+ tasks`)

// counts tells whether Spark's REST API has been asked for the tasks.
func (b *begun) counts() bool { return counted.MatchString(b.said.Load().(string)) }

// stuck is for how long something is waited for: a Java starts in a minute and more on a busy machine.
const stuck = 5 * time.Minute

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(stuck); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", stuck, what)
		}
	}
}

// processes are the command lines, by pid, of those that name a folder, or work in it.
func processes(t testing.TB, dir string) map[int]string {
	t.Helper()
	out := map[int]string{}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range all {
		line, _ := os.ReadFile(filepath.Join(proc, "cmdline")) // it may be gone
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))
		pid, _ := strconv.Atoi(filepath.Base(proc))
		if pid != os.Getpid() && len(line) > 0 && (strings.Contains(string(line), dir) || strings.HasPrefix(cwd, dir)) {
			out[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return out
}

// files are those of a run but its temporary ones.
func files(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "spark-*", "*"))
	if err != nil || len(all) == 0 {
		t.Fatalf("files of the run: %v %v", all, err)
	}
	var out []string
	for _, name := range all {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s can be read by others: %v", name, info.Mode())
			}
			out = append(out, name)
		}
	}
	return out
}

// uiPort is where the driver of a run shows its pages: the one of its ports that speaks HTTP. It listens on loopback only.
func uiPort(t *testing.T, dir string) string {
	t.Helper()
	for pid, line := range processes(t, dir) {
		if !strings.Contains(line, "SparkSubmit") {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "ss", "-H", "-l", "-t", "-n", "-p").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range strings.Split(string(out), "\n") {
			fields := strings.Fields(row)
			if !strings.Contains(row, "pid="+strconv.Itoa(pid)+",") || len(fields) < 4 {
				continue
			}
			at := strings.TrimPrefix(strings.Trim(fields[3], "[]"), "::ffff:")
			if !strings.HasPrefix(strings.ReplaceAll(at, "[::ffff:", ""), "127.0.0.1") {
				t.Errorf("Spark listens at %s", fields[3])
			}
			port := at[strings.LastIndex(at, ":")+1:]
			if speaksHTTP(t, port) {
				return port
			}
		}
	}
	t.Fatal("no page of Spark's was found")
	return ""
}

func speaksHTTP(t *testing.T, port string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+"/api/v1/applications", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
