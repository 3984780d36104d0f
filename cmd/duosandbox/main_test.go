package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/sandbox"
)

const asProgram = "DUOSANDBOX_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program runs this test's binary as duosandbox.
func program(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader, *bytes.Buffer) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append(os.Environ(), asProgram+"=1", "DUOSANDBOX_ACCESS_KEY=mine", "DUOSANDBOX_SECRET_KEY=secret")
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(out), &log
}

func TestProgramServesUntilSIGTERM(t *testing.T) {
	given := filepath.Join(t.TempDir(), "given.csv")
	if err := os.WriteFile(given, []byte("date,number_of_strikes,center_point_geom\n2016-01-04,33,POINT(-83.1 21.1)\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, out, log := program(t, "--dir", t.TempDir(), "--years", "2018-2019", "--scale", "0.001", "--table", "real="+given, "-o", "json")
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	var r readiness
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	if want := []string{"lightning_2018", "lightning_2019", "lightning_strikes", "real"}; !r.Ready || r.PID != c.Process.Pid || !slices.Equal(r.Tables, want) || !r.Synthetic || r.AccessKey != "mine" {
		t.Errorf("%+v", r)
	}
	for url, want := range map[string]int{
		r.BigQuery + "/bigquery/v2/projects/p/datasets/noaa_lightning/tables/lightning_2018": http.StatusOK,
		"http://" + r.GCS + "/storage/v1/b/lightning-staging":                                http.StatusOK,
		r.S3 + "/lightning": http.StatusForbidden, // without keys
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %s", url, answer.Status)
		}
	}
	began := time.Now()
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := out.ReadString(0)
	if err := c.Wait(); err != nil || rest != "" || log.Len() != 0 {
		t.Errorf("%v, after %s; stdout %q, stderr %q", err, time.Since(began), rest, log)
	}
}

func TestTextSaysWhereAndThatItIsSynthetic(t *testing.T) {
	c, out, log := program(t, "--dir", t.TempDir(), "--years", "2018", "--scale", "0.001", "--generation", "1")
	var text strings.Builder
	for !strings.Contains(text.String(), "ready") {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("%v: %s%s", err, text.String(), log)
		}
		text.WriteString(line)
	}
	for _, want := range []string{"s3        http://127.0.0.1:", "access key mine", "gcs       127.0.0.1:", "bigquery  http://127.0.0.1:", "lightning_2018", "synthetic", "loopback only"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in %s", want, text.String())
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, log)
	}
}

// TestFaultsArePlannedFromOutside, at an address that the sandbox would refuse without --open.
func TestFaultsArePlannedFromOutside(t *testing.T) {
	c, out, log := program(t, "--dir", t.TempDir(), "--years", "2018", "--scale", "0.001", "--faults", "--open", "--s3", "[::]:0", "-o", "json")
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v: %s", err, log)
	}
	var r readiness
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	call := func(method, path, body string, want int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, r.BigQuery+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != want {
			t.Errorf("%s %s: %s, want %d: %s, %v", method, path, answer.Status, want, text, err)
		}
		return string(text)
	}
	const table = "/bigquery/v2/projects/p/datasets/noaa_lightning/tables/lightning_2018"
	for _, wrong := range []string{`{"server":"s4"}`, `{"server":"s3","dealy_ms":1}`, `{"server":"s3","times":-1}`, `{"server":"gcs","status":99}`, ``} {
		call(http.MethodPost, sandbox.ControlPath, wrong, http.StatusBadRequest)
	}
	call(http.MethodPut, sandbox.ControlPath, "", http.StatusMethodNotAllowed)
	call(http.MethodPost, sandbox.ControlPath, `{"server":"bigquery","call":"tables.get","times":1,"status":503,"reason":"backendError"}`, http.StatusOK)
	call(http.MethodGet, table, "", http.StatusServiceUnavailable)
	call(http.MethodGet, table, "", http.StatusOK)
	if got := call(http.MethodGet, sandbox.ControlPath, "", http.StatusOK); !strings.Contains(got, `"reason":"backendError","hits":1`) {
		t.Errorf("planned: %s", got)
	}
	if got := call(http.MethodDelete, sandbox.ControlPath, "", http.StatusOK); strings.TrimSpace(got) != "[]" {
		t.Errorf("left: %s", got)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v: %s", err, log)
	}
}

func TestUsage(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitUsage, "dir: empty"},
		{[]string{"--dir", dir, "extra"}, exitUsage, "extra"},
		{[]string{"--dir", dir, "--years", "2018-2021"}, exitUsage, "1987-2020"},
		{[]string{"--dir", dir, "--years", "soon"}, exitUsage, "soon"},
		{[]string{"--dir", dir, "--scale", "2"}, exitUsage, "--scale"},
		{[]string{"--dir", dir, "--generation", "1,2"}, exitUsage, "same names"},
		{[]string{"--dir", dir, "--generation", "4"}, exitUsage, "not 4"},
		{[]string{"--dir", dir, "--table", "x"}, exitUsage, "NAME=FILE"},
		{[]string{"--dir", dir, "-o", "yaml"}, exitUsage, "yaml"},
		{[]string{"--dir", dir, "--s3", "0.0.0.0:1"}, exitUsage, "loopback"},
		{[]string{"--dir", dir, "--table", "x=/no/such/file"}, exitFailed, "no such file"},
		{[]string{"--dir", "/proc/self/nothing"}, exitFailed, "make dir"},
	} {
		var out, log bytes.Buffer
		if code := run(t.Context(), c.args, &out, &log); code != c.code || !strings.Contains(log.String(), c.says) || out.Len() != 0 {
			t.Errorf("%v: exit code %d, %s%s", c.args, code, &out, &log)
		}
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &out); code != exitOK || !strings.Contains(out.String(), "duosandbox --dir /tmp/sandbox") || !strings.Contains(out.String(), "loopback") {
		t.Errorf("%d, %s", code, &out)
	}
}
