package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/cmd/manual"
	"github.com/duoflow/duoflow/cmd/release"
	"github.com/duoflow/duoflow/node"
)

const checkout = "../.."

// TestSampleNamesEveryKey: what can be configured can be found in the sample, so that a new key is not forgotten.
func TestSampleNamesEveryKey(t *testing.T) {
	sample, err := os.ReadFile("debian/node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := readKeys(filepath.Join(checkout, "node"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, g := range groups {
		for _, k := range g.keys {
			seen++
			name := k.path[strings.LastIndex(k.path, ".")+1:]
			if !regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).Match(sample) {
				t.Errorf("the sample does not name %s", k.path)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d keys were found in the code", seen)
	}
}

// TestSampleIsRefusedAsItIs: what has to be filled in is named, and no key is unknown.
func TestSampleIsRefusedAsItIs(t *testing.T) {
	sample, err := os.ReadFile("debian/node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = node.ParseConfig(sample, t.TempDir())
	var problems *node.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("it is not refused as a configuration is: %v", err)
	}
	text := strings.Join(problems.List, "\n")
	for _, key := range []string{"node", "nodes.b.peer", "tls.cert"} {
		if !strings.Contains(text, key+": ") {
			t.Errorf("%s is not among the problems:\n%s", key, text)
		}
	}
	if strings.Contains(text, "unknown key") || strings.Contains(text, "YAML") {
		t.Errorf("it is malformed:\n%s", text)
	}
}

// TestUnit: the unit and the examples of drop-ins are made of settings, and of those that the daemon counts on none is missing. What
// systemd thinks of them is asked by TestPackages.
func TestUnit(t *testing.T) {
	line := regexp.MustCompile(`^(#.*|\[(Unit|Service|Install)\]|[A-Z][A-Za-z]+=.*|)$`)
	for _, name := range []string{"duoflowd.service", "root.conf", "folders.conf", "sudo.conf"} {
		text, err := os.ReadFile(filepath.Join("debian", name))
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(text)) {
			if !line.MatchString(strings.TrimSuffix(l, "\n")) {
				t.Errorf("%s: %q is no setting", name, l)
			}
		}
	}
	unit, err := os.ReadFile("debian/duoflowd.service")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Type=notify", "NotifyAccess=main", "WatchdogSec=30s", "KillMode=mixed", "Delegate=yes", "User=duoflow", "StateDirectory=duoflow", "NoNewPrivileges=yes",
		"ExecStart=/usr/sbin/duoflowd --config /etc/duoflow/node.yaml", "TimeoutStopSec=60s", "SystemCallFilter=@system-service", "ProtectSystem=strict",
	} {
		if !strings.Contains(string(unit), "\n"+want+"\n") {
			t.Errorf("the unit has no %s", want)
		}
	}
}

// TestPackagesAreWhole: all files that packages are made of are there.
func TestPackagesAreWhole(t *testing.T) {
	for _, d := range debs {
		from := []string{debian + "copyright"}
		for _, path := range d.files {
			from = append(from, path)
		}
		for _, script := range d.scripts {
			from = append(from, debian+d.name+"."+script)
		}
		for _, path := range from {
			if _, err := os.Stat(filepath.Join(checkout, path)); err != nil {
				t.Errorf("%s: %v", d.name, err)
			}
		}
		for _, path := range d.conffiles {
			if d.files[strings.TrimPrefix(path, "/")] == "" {
				t.Errorf("%s: dpkg is to ask about %s, which the package has not", d.name, path)
			}
		}
	}
}

// TestReplaceable: a release is not written over what is none.
func TestReplaceable(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{sumsName, "duoctl_1_amd64.deb", "duoflow_1_linux_amd64.tar.gz"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(replaceable(dir), replaceable(filepath.Join(dir, "new"))); err != nil {
		t.Error(err)
	}
	for _, out := range []string{checkout, filepath.Join(dir, sumsName)} {
		if err := replaceable(out); err == nil {
			t.Errorf("%s would be emptied", out)
		}
	}
}

// TestKeys: the page of a configuration speaks of keys, with the words of the code.
func TestKeys(t *testing.T) {
	for dir, want := range map[string]map[string]string{
		"node": {
			"cluster": "cluster names the cluster", "jobs.NAME.fence.dsn": "dsn logs in as this host's fencer. Empty on a witness.",
			"jobs.NAME.hooks.timeout": "timeout is how long each may take", "nodes.NAME.priority": "priority orders candidates, higher first.",
		},
		"etl": {
			"stages.s3.access_key_env": "name the variables with the keys", "source.window.to": "the month before the running one",
			"engine.spark.master": "", "load.readers": "readers may read the views.",
		},
	} {
		groups, err := readKeys(filepath.Join(checkout, dir))
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]string{}
		for _, g := range groups {
			for _, k := range g.keys {
				found[k.path] = k.doc
			}
		}
		for path, text := range want {
			if doc, ok := found[path]; !ok || !strings.Contains(doc, text) {
				t.Errorf("%s: %s is said to be %q", dir, path, doc)
			}
		}
		page := &manual.Page{}
		writeKeys(page, groups)
		if !strings.Contains(page.String(), ".SH \"KEYS\"") {
			t.Error("the page has no keys")
		}
	}
	if _, err := readKeys(checkout); err == nil {
		t.Error("keys were found where there are none")
	}
}

func TestStamp(t *testing.T) {
	number := strings.Replace(release.Number, "-", "~", 1) // what Debian sorts before the release itself
	s := stamp{commit: strings.Repeat("ab", 20), at: time.Date(2026, 11, 30, 17, 46, 1, 0, time.UTC)}
	if got := s.debian(); got != number+"~git20261130174601.abababababab" {
		t.Errorf("a commit between releases becomes %s", got)
	}
	s.tagged = true
	if got := s.debian(); got != number {
		t.Errorf("a release becomes %s", got)
	}
	s.dirty = true
	if got := s.debian(); !strings.HasSuffix(got, "+dirty") || !strings.HasSuffix(s.linked(), ".dirty") {
		t.Errorf("changed files become %s, %s", got, s.linked())
	}
	if got := s.epoch(); got != "SOURCE_DATE_EPOCH=1796060761" {
		t.Errorf("its time is %s", got)
	}
	here, err := readStamp(t.Context(), checkout)
	if err != nil || len(here.commit) != 40 || here.at.IsZero() {
		t.Errorf("this checkout is %+v, %v", here, err)
	}
}

func TestChangelog(t *testing.T) {
	text := "# Changelog\n\n## Unreleased\n\n- One `thing`\n  and more.\n- " + strings.Repeat("word ", 40) + "\n\n## 0.0.1-rc.1 (2020-01-01)\n\n- Older.\n\n## 0.0.1\n\n- Old.\n"
	points := pointsOf(text, "Unreleased")
	if len(points) != 2 || points[0] != "One `thing` and more." {
		t.Fatalf("%q", points)
	}
	if got := pointsOf(text, "0.0.1-rc.1"); len(got) != 1 || got[0] != "Older." {
		t.Errorf("%q", got)
	}
	if got := pointsOf(text, "0.0.2"); got != nil {
		t.Errorf("a version that is not there has %q", got)
	}
	if got := pointsOf(text, "0.0.1"); len(got) != 1 || got[0] != "Old." {
		t.Errorf("%q", got)
	}
	if got := wrapped(points[0]); got != "  * One thing and more.\n" {
		t.Errorf("%q", got)
	}
	for line := range strings.Lines(wrapped(points[1])) {
		if len(line) > 80 {
			t.Errorf("a line of %d: %q", len(line), line)
		}
	}
}

// TestArchiveIsOfTheCommitsTime: it has names in order, no owner, and one time, whatever the files say.
func TestArchiveIsOfTheCommitsTime(t *testing.T) {
	dir, at := t.TempDir(), time.Unix(1000, 0)
	made := tree{root: filepath.Join(dir, "tree")}
	for _, name := range []string{"b/two", "a", "b/one"} {
		made.write(name, []byte(name), 0o755)
	}
	if made.err != nil {
		t.Fatal(made.err)
	}
	path := filepath.Join(dir, "x.tar.gz")
	if err := writeArchive(path, made.root, "x", at); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(at) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Mode != 0o755 {
			t.Errorf("%+v", h)
		}
		names = append(names, h.Name)
	}
	if got := fmt.Sprint(names); got != "[x/ x/a x/b/ x/b/one x/b/two]" {
		t.Error(got)
	}
}

func TestArguments(t *testing.T) {
	for _, args := range []string{"-arch m68k", "-programs emacs", "extra", "-unknown", "-out ."} {
		if code := run(t.Context(), strings.Fields(args), io.Discard, io.Discard); code != 2 {
			t.Errorf("%s: exit code %d", args, code)
		}
	}
}

// TestStatic: Debian's shell wants the C library.
func TestStatic(t *testing.T) {
	if err := static("/bin/sh"); err == nil {
		t.Error("a program that wants libraries is taken for a static one")
	}
}
