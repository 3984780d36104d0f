//go:build spark

// Package spark_test lets fetch meet what a network does to a large download.
package spark_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// archive is a package that looks like PyPI's pyspark and has nothing in it.
func archive(t *testing.T) []byte {
	t.Helper()
	noise := make([]byte, 1<<20) // is not packed any smaller
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(noise) // it never fails
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, file := range []struct{ name, text string }{
		{"setup.py", "from setuptools import setup\nsetup(name='pyspark', version='1.0', packages=[])\n"},
		{"PKG-INFO", "Metadata-Version: 2.1\nName: pyspark\nVersion: 1.0\n"},
		{"LICENSE", "x"}, {"NOTICE", "x"},
		{"lib/pyspark.zip", "x"}, {"deps/bin/spark-submit", "x"}, {"deps/sbin/x", "x"}, {"deps/licenses/x", "x"}, {"deps/jars/spark.jar", string(noise)},
	} {
		if err := w.WriteHeader(&tar.Header{Name: "pyspark-1.0/" + file.name, Mode: 0o644, Size: int64(len(file.text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(file.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// index is a package index with one file, whose connections break.
type index struct {
	content []byte

	mu      sync.Mutex
	cuts    int      // downloads that are still to break off half way
	asked   []string // ranges, "" is all
	missing bool
}

func (i *index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.missing {
		http.NotFound(w, r)
		return
	}
	if !strings.HasSuffix(r.URL.Path, ".tar.gz") {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!DOCTYPE html><a href="/files/pyspark-1.0.tar.gz">pyspark-1.0.tar.gz</a>`)
		return
	}
	i.asked = append(i.asked, r.Header.Get("Range"))
	w.Header().Set("ETag", `"1"`)
	if i.cuts > 0 {
		i.cuts--
		w = &cutter{ResponseWriter: w, left: len(i.content) / 3}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(i.content))
}

// cutter breaks the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

// Write implements http.ResponseWriter.
func (c *cutter) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(b)
}

// checkout is what fetch works on.
type checkout struct {
	t                *testing.T
	url, lock, cache string
}

func (c *checkout) fetch(home string) (string, error) {
	c.t.Helper()
	pip, err := filepath.Abs("../../.cache/spark/pip/bin/pip")
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.CommandContext(c.t.Context(), "./fetch", pip, c.lock, home)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.t.TempDir(), "XDG_CACHE_HOME=" + c.cache, "PIP_INDEX_URL=" + c.url + "/simple", "PIP_CONFIG_FILE=/dev/null",
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// want looks whether there is all of a Spark, or nothing of one.
func (c *checkout) want(home string, whole bool) {
	c.t.Helper()
	for _, name := range []string{"bin/spark-submit", "sbin", "jars/spark.jar", "licenses", "python/lib/pyspark.zip", "LICENSE"} {
		if _, err := os.Stat(filepath.Join(home, name)); (err == nil) != whole {
			c.t.Errorf("%s: %v, want it: %v", name, err, whole)
		}
	}
	if left, _ := filepath.Glob(home + ".*"); len(left) > 0 {
		c.t.Errorf("left: %v", left)
	}
}

// TestFetch lets the connection break, the hash be wrong, the package be missing and the kept archive be damaged.
func TestFetch(t *testing.T) {
	i := &index{content: archive(t), cuts: 2}
	server := httptest.NewServer(i)
	defer server.Close()
	dir := t.TempDir()
	c := &checkout{t: t, url: server.URL, lock: filepath.Join(dir, "lock"), cache: filepath.Join(dir, "cache")}
	kept, home := filepath.Join(c.cache, "duoflow", "pyspark-1.0.tar.gz"), filepath.Join(dir, "home")
	pin := func(hash string) {
		if err := os.WriteFile(c.lock, []byte("# comment\npyspark==1.0 \\\n    --hash=sha256:"+hash+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	pin(strings.Repeat("0", 64))
	if text, err := c.fetch(home); err == nil || !strings.Contains(text, "DO NOT MATCH") || !strings.Contains(text, kept) {
		t.Errorf("wrong hash: %v\n%s", err, text)
	}
	c.want(home, false)
	if _, err := os.Stat(kept); err == nil || len(i.asked) != 3 {
		t.Errorf("wrong hash: kept %v, asked %q; want one download that broke off twice", err == nil, i.asked)
	}

	good := fmt.Sprintf("%x", sha256.Sum256(i.content))
	pin(good)
	i.missing = true
	if text, err := c.fetch(home); err == nil || !strings.Contains(text, "put the file from elsewhere at\nfetch: "+kept+" (sha256 "+good+")") {
		t.Errorf("no such package: %v\n%s", err, text)
	}
	c.want(home, false)

	i.missing, i.cuts, i.asked = false, 2, nil
	if text, err := c.fetch(home); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	c.want(home, true)
	if len(i.asked) != 3 || i.asked[0] != "" || !strings.HasPrefix(i.asked[1], "bytes=") || !strings.HasPrefix(i.asked[2], "bytes=") {
		t.Errorf("asked for %q, want all, then what was left, twice", i.asked)
	}

	i.asked = nil
	if text, err := c.fetch(home + "2"); err != nil || len(i.asked) != 0 {
		t.Errorf("from what is kept: %v, asked %q\n%s", err, i.asked, text)
	}
	c.want(home+"2", true)

	if err := os.WriteFile(kept, i.content[:len(i.content)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := c.fetch(home); err != nil || len(i.asked) != 1 {
		t.Errorf("after damage: %v, asked %q\n%s", err, i.asked, text)
	}
	c.want(home, true)
}
