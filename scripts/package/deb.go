package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5" // dpkg's own checksums of installed files, against accidents
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	maintainer = "duoflow maintainers <duoflow@users.noreply.github.com>"
	homepage   = "https://github.com/duoflow/duoflow"
)

// deb is one package.
type deb struct {
	name, program string
	bin           string // the folder its program is in
	section       string
	relations     [][2]string // fields of control, such as Depends
	short, long   string
	// files are further ones, from the checkout, by the path that they are installed as.
	files map[string]string
	// conffiles are those of them that dpkg asks about.
	conffiles []string
	// scripts are the maintainer scripts, from debian/NAME.SCRIPT.
	scripts []string
}

const debian = "scripts/package/debian/"

// The alternatives are those that debhelper writes.
const needs = "systemd | systemd-standalone-sysusers | systemd-sysusers, systemd | systemd-standalone-tmpfiles | systemd-tmpfiles"

var debs = []deb{
	{
		name: "duoctl", program: "duoctl", bin: "usr/bin", section: "admin",
		relations: [][2]string{{"Suggests", "duoflowd"}},
		short:     "look at and steer a duoflow cluster",
		long: "duoflow keeps exactly one scheduler of Apache Airflow, or any other job, at\nwork on several hosts, and fences an old one in PostgreSQL before a new one\nbegins.\n\n" +
			"This package has the operator's tool. It can be installed where no node is.",
	},
	{
		name: "duoflowd", program: "duoflowd", bin: "usr/sbin", section: "admin",
		relations: [][2]string{{"Depends", needs}, {"Recommends", "duoctl, tzdata"}, {"Suggests", "duoflow-etl"}},
		short:     "node of a duoflow cluster",
		long: "duoflow keeps exactly one scheduler of Apache Airflow, or any other job, at\nwork on several hosts, and fences an old one in PostgreSQL before a new one\nbegins.\n\n" +
			"This package has the daemon, which runs on two hosts with the job and on a\nthird one as a witness, and its unit. It is started once /etc/duoflow/node.yaml\nis filled in.",
		files: map[string]string{
			"lib/systemd/system/duoflowd.service":             debian + "duoflowd.service",
			"usr/lib/sysusers.d/duoflowd.conf":                debian + "duoflowd.sysusers",
			"usr/lib/tmpfiles.d/duoflowd.conf":                debian + "duoflowd.tmpfiles",
			"etc/needrestart/conf.d/duoflowd.conf":            debian + "duoflowd.needrestart",
			"etc/duoflow/node.yaml":                           debian + "node.yaml",
			"usr/share/doc/duoflowd/examples/root.conf":       debian + "root.conf",
			"usr/share/doc/duoflowd/examples/folders.conf":    debian + "folders.conf",
			"usr/share/doc/duoflowd/examples/sudo.conf":       debian + "sudo.conf",
			"usr/share/doc/duoflowd/examples/prometheus.yaml": "scripts/monitoring/alerts.yml",
			"usr/share/doc/duoflowd/AIRFLOW.md":               "docs/AIRFLOW.md",
			"usr/share/doc/duoflowd/FAQ.md":                   "docs/FAQ.md",
			"usr/share/doc/duoflowd/INSTALL.md":               "docs/INSTALL.md",
			"usr/share/doc/duoflowd/OPERATING.md":             "docs/OPERATING.md",
			"usr/share/doc/duoflowd/PRODUCTION.md":            "docs/PRODUCTION.md",
			"usr/share/doc/duoflowd/RUNBOOK.md":               "docs/RUNBOOK.md",
		},
		conffiles: []string{"/etc/duoflow/node.yaml", "/etc/needrestart/conf.d/duoflowd.conf"},
		scripts:   []string{"postinst", "prerm", "postrm"},
	},
	{
		name: "duoflow-etl", program: "duoetl", bin: "usr/bin", section: "database",
		relations: [][2]string{{"Recommends", "ca-certificates"}, {"Enhances", "duoflowd"}},
		short:     "lightning data from BigQuery through S3 into PostgreSQL",
		long: "duoetl brings tiles of lightning observations from BigQuery or Google Cloud\nStorage through S3 into PostgreSQL, adds them up with a built-in DuckDB or with\nSpark, and goes on where it was killed.\n\n" +
			"It runs by itself, or as a job of duoflowd, which fences it.",
		files: map[string]string{
			"usr/share/doc/duoflow-etl/examples/etl.yaml":     "cmd/duoetl/example.yaml",
			"usr/share/doc/duoflow-etl/examples/lightning.py": "etl/dags/lightning.py",
		},
	},
}

// packDeb writes one package to the folder out.
func (j *job) packDeb(ctx context.Context, d deb, arch, out string) error {
	t := tree{root: filepath.Join(j.work, "deb", arch, d.name)}
	t.copy(d.bin+"/"+d.program, j.binary(arch, d.program), 0o755)
	t.copyShared(filepath.Join(j.work, "share", d.program))
	for path, from := range d.files {
		t.copy(path, filepath.Join(j.root, from), 0o644)
	}
	docs := "usr/share/doc/" + d.name + "/"
	t.copy(docs+"copyright", filepath.Join(j.root, debian, "copyright"), 0o644)
	t.write(docs+"third-party.txt.gz", packed(j.thirdParty[d.program]), 0o644)
	entry, err := j.changelog(d.name)
	if err != nil {
		return err
	}
	t.write(docs+"changelog.gz", packed(entry), 0o644)
	overrides := filepath.Join(j.root, debian, d.name+".lintian-overrides")
	if _, err := os.Stat(overrides); err == nil {
		t.copy("usr/share/lintian/overrides/"+d.name, overrides, 0o644)
	}
	size, sums := t.account()
	t.write("DEBIAN/md5sums", []byte(sums), 0o644)
	t.write("DEBIAN/control", []byte(d.control(j.stamp.debian(), arch, size)), 0o644)
	if len(d.conffiles) > 0 {
		t.write("DEBIAN/conffiles", []byte(strings.Join(d.conffiles, "\n")+"\n"), 0o644)
	}
	for _, script := range d.scripts {
		t.copy("DEBIAN/"+script, filepath.Join(j.root, debian+d.name+"."+script), 0o755)
	}
	if t.err != nil {
		return fmt.Errorf("fill package %s: %w", d.name, t.err)
	}
	file := filepath.Join(out, fmt.Sprintf("%s_%s_%s.deb", d.name, j.stamp.debian(), arch))
	// One thread: with more, how xz cuts the blocks is the number of processors' affair.
	_, err = command(ctx, "/", []string{j.stamp.epoch()}, "dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", t.root, file)
	return err
}

func (d deb) control(version, arch string, kilobytes int64) string {
	var b strings.Builder
	for _, f := range append([][2]string{
		{"Package", d.name}, {"Version", version}, {"Architecture", arch}, {"Maintainer", maintainer},
		{"Installed-Size", strconv.FormatInt(kilobytes, 10)}, {"Section", d.section}, {"Priority", "optional"}, {"Homepage", homepage},
	}, d.relations...) {
		fmt.Fprintf(&b, "%s: %s\n", f[0], f[1])
	}
	fmt.Fprintf(&b, "Description: %s\n", d.short)
	for line := range strings.Lines(d.long + "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			line = "."
		}
		fmt.Fprintf(&b, " %s\n", line)
	}
	return b.String()
}

// tree fills a folder and remembers the first error.
type tree struct {
	root string
	err  error
}

func (t *tree) copy(path, from string, mode fs.FileMode) {
	text, err := os.ReadFile(from)
	if t.err == nil {
		t.err = err
	}
	t.write(path, text, mode)
}

// write does not leave rights to the umask.
func (t *tree) write(path string, text []byte, mode fs.FileMode) {
	if t.err != nil {
		return
	}
	path = filepath.Join(t.root, path)
	if t.err = os.MkdirAll(filepath.Dir(path), 0o755); t.err == nil {
		t.err = os.WriteFile(path, text, mode)
	}
	if t.err == nil {
		t.err = os.Chmod(path, mode)
	}
	for dir := filepath.Dir(path); t.err == nil && len(dir) >= len(t.root); dir = filepath.Dir(dir) {
		t.err = os.Chmod(dir, 0o755)
	}
}

// copyShared copies what was made of a program; manual pages are packed.
func (t *tree) copyShared(from string) {
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.HasPrefix(name, "usr/share/man/") {
			name, text = name+".gz", packed(string(text))
		}
		t.write(name, text, 0o644)
		return err
	})
	if t.err == nil {
		t.err = err
	}
}

// account returns the size of all files, in KiB as dpkg counts, and their checksums.
func (t *tree) account() (kilobytes int64, sums string) {
	err := filepath.WalkDir(t.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			kilobytes++
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		kilobytes += (int64(len(text)) + 1023) / 1024
		name, err := filepath.Rel(t.root, path)
		if !strings.HasPrefix(name, "etc/") {
			sums += fmt.Sprintf("%x  %s\n", md5.Sum(text), name)
		}
		return err
	})
	if t.err == nil {
		t.err = err
	}
	return kilobytes, sums
}

// packed is gzip without name and time, as Debian wants it.
func packed(text string) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(fmt.Sprintf("a buffer in memory takes no bytes: %v", err))
	}
	return b.Bytes()
}
