package spark

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl/aggregate"
)

// actAs makes this test binary act as spark-submit, or as a program that runs Spark and is killed. Spark itself is tried by the
// tests with tag spark.
const actAs = "SPARK_TEST_ACTS_AS"

func TestMain(m *testing.M) {
	switch role := os.Getenv(actAs); {
	case role == "owner":
		own()
	case role != "":
		submit(role)
	}
	os.Exit(m.Run())
}

// submit does as spark-submit with job.py does, up to where the role says.
func submit(role string) {
	if role == "refuses" {
		fmt.Println("WARN something\nException in thread \"main\" org.apache.spark.SparkException: no " + os.Getenv("AWS_SECRET_ACCESS_KEY") + "\n\tat java.base/x")
		os.Exit(1)
	}
	child := exec.Command("sleep", "600") // as Spark's Python is one of Java
	if err := child.Start(); err != nil {
		panic(err)
	}
	conn, err := net.Dial("unix", os.Args[len(os.Args)-1])
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(conn, `{"version": "4.1.4", "application": "local-1", "ui": "http://host:1"}`)
	for in := bufio.NewScanner(conn); in.Scan(); {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			panic(err)
		}
		switch role {
		case "dies":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "hangs":
			hang(conn)
		case "babbles":
			fmt.Fprintln(conn, "what?")
			hang(conn)
		case "fails":
			fmt.Fprintf(conn, "{\"id\": %d, \"error\": \"no such column\"}\n", r.ID)
		case "halves":
			if err := os.WriteFile(r.Out, []byte(`{"frames":[{"name":"totals","columns":["tiles","strikes","days"],"rows":1}]}`+"\n1234"), 0o600); err != nil {
				panic(err)
			}
			fmt.Fprintf(conn, "{\"id\": %d}\n", r.ID)
		}
	}
	os.Exit(0)
}

// hang for good, with the connection open: one that nobody uses any more is closed by the garbage collector.
func hang(conn net.Conn) {
	for {
		time.Sleep(time.Hour)
		runtime.KeepAlive(conn)
	}
}

// own asks a Spark that hangs, until it is killed.
func own() {
	e, err := New(Config{Dir: os.Getenv("SPARK_TEST_DIR"), Home: os.Getenv("SPARK_TEST_HOME"), Python: "true"})
	if err != nil {
		panic(err)
	}
	_, err = e.Aggregate(context.Background(), job())
	fmt.Println(err)
	os.Exit(1)
}

func job() aggregate.Job { return aggregate.Job{Chunk: "2018", Inputs: []string{"/x.parquet"}} }

// script writes an executable.
func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		script(t, filepath.Join(dir, name), "")
	}
}

// acting is the configuration of a Spark that is not there but plays a role, and what it counts its starts in.
func acting(t *testing.T, role string) (c Config, starts func() int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	home, count := filepath.Join(dir, "home"), filepath.Join(dir, "starts")
	script(t, filepath.Join(home, "bin", "spark-submit"), fmt.Sprintf("echo >>%s\n%s=%s exec %s \"$@\"\n", count, actAs, role, self))
	touch(t, filepath.Join(home, "jars"), "spark-core_2.13-4.1.4.jar", "hadoop-client-api-3.4.2.jar", "hadoop-aws-3.4.2.jar")
	script(t, filepath.Join(dir, "java", "bin", "java"), `echo 'openjdk version "17.0.15" 2025-04-15' >&2`)
	c = Config{Home: home, Java: filepath.Join(dir, "java"), Python: "true", Dir: filepath.Join(dir, "w"), S3: S3{AccessKey: "key", SecretKey: "very-secret"}}
	return c, func() int {
		text, err := os.ReadFile(count)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n")
	}
}

func TestASparkThatEnds(t *testing.T) {
	for _, one := range []struct {
		role   string
		want   error
		says   string
		starts int
	}{
		{"refuses", ErrMissing, "SparkException: no ***", 1},
		{"dies", ErrDied, "signal: killed", 2},
		{"babbles", ErrDied, "not an answer: \"what?\"", 2},
		{"fails", ErrQuery, "no such column", 1},
		{"halves", nil, "not 4", 1},
	} {
		t.Run(one.role, func(t *testing.T) {
			already := goleak.IgnoreCurrent()
			c, starts := acting(t, one.role)
			e, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			r, err := e.Aggregate(t.Context(), job())
			if err == nil || one.want != nil && !errors.Is(err, one.want) || !strings.Contains(err.Error(), one.says) || r.Day.Columns != nil {
				t.Errorf("%v, %d days; want %v and %q", err, r.Day.Len(), one.want, one.says)
			}
			if n := starts(); n != one.starts {
				t.Errorf("%d starts, want %d", n, one.starts)
			}
			e.Close()
			e.Close()
			goleak.VerifyNone(t, already)
			nothingIsLeft(t, c.Dir)
		})
	}
}

// nothingIsLeft of the processes and files of runs below a folder.
func nothingIsLeft(t *testing.T, dir string) {
	t.Helper()
	if left := living(t, dir); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "spark-*")); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// living are the processes that work in a folder.
func living(t *testing.T, dir string) []int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, link := range all {
		at, _ := os.Readlink(link) // it may be gone
		state, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "stat"))
		if strings.HasPrefix(at, dir+"/spark-") && !strings.Contains(string(state), ") Z ") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			out = append(out, pid)
		}
	}
	return out
}

func TestCancelledWhileItWorks(t *testing.T) {
	already := goleak.IgnoreCurrent()
	c, _ := acting(t, "hangs")
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := e.Aggregate(ctx, job())
		ended <- err
	}()
	until(t, "two processes", func() bool { return len(living(t, c.Dir)) == 2 })
	if _, err := e.Version(expired(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("a second call, cancelled while it waits: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	goleak.VerifyNone(t, already)
	nothingIsLeft(t, c.Dir)
}

func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// TestOwnerKilled kills the program that runs Spark: Spark ends, and the next run removes what is left of its files.
func TestOwnerKilled(t *testing.T) {
	c, _ := acting(t, "hangs")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), actAs+"=owner", "SPARK_TEST_DIR="+c.Dir, "SPARK_TEST_HOME="+c.Home, "JAVA_HOME="+c.Java)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "two processes", func() bool { return len(living(t, c.Dir)) == 2 })
	leader := living(t, c.Dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	until(t, "Spark to end", func() bool { return !slices.ContainsFunc(living(t, c.Dir), func(pid int) bool { return submits(pid) }) })
	for _, pid := range leader { // sleep, which stands for Python, has no socket to see closed
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	until(t, "the rest to end", func() bool { return len(living(t, c.Dir)) == 0 })
	if left, _ := filepath.Glob(filepath.Join(c.Dir, "spark-*")); len(left) != 1 {
		t.Fatalf("of the killed run: %v", left)
	}
	sweep(c.Dir)
	nothingIsLeft(t, c.Dir)
}

func submits(pid int) bool {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may be gone
	return strings.Contains(string(line), "--properties-file")
}
