package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pack writes packages and archives.
func (j *job) pack(ctx context.Context, out string) error {
	for _, arch := range j.archs {
		for _, d := range debs {
			if !j.wants(d.program, arch) {
				continue
			}
			if err := j.packDeb(ctx, d, arch, out); err != nil {
				return err
			}
		}
		if err := j.packArchive(arch, out); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) wants(program, arch string) bool {
	for _, p := range j.wanted() {
		if p.name == program && p.builtFor(arch) {
			return true
		}
	}
	return false
}

// packArchive is for who has no dpkg: the programs with their pages and completion, the sample configurations, the licenses.
func (j *job) packArchive(arch, out string) error {
	name := fmt.Sprintf("duoflow_%s_linux_%s", j.stamp.debian(), arch)
	t := tree{root: filepath.Join(j.work, "archive", arch)}
	for _, p := range j.wanted() {
		if !p.builtFor(arch) {
			continue
		}
		t.copy("bin/"+p.name, j.binary(arch, p.name), 0o755)
		t.copyShared(filepath.Join(j.work, "share", p.name))
		t.write("third-party/"+p.name+".txt", []byte(j.thirdParty[p.name]), 0o644)
	}
	for path, from := range map[string]string{
		"LICENSE": "LICENSE", "CHANGELOG.md": "CHANGELOG.md", "docs/AIRFLOW.md": "docs/AIRFLOW.md", "docs/FAQ.md": "docs/FAQ.md",
		"docs/INSTALL.md": "docs/INSTALL.md", "docs/OPERATING.md": "docs/OPERATING.md", "docs/PRODUCTION.md": "docs/PRODUCTION.md",
		"docs/RUNBOOK.md":    "docs/RUNBOOK.md",
		"examples/node.yaml": debian + "node.yaml", "examples/etl.yaml": "cmd/duoetl/example.yaml", "examples/duoflowd.service": debian + "duoflowd.service",
	} {
		t.copy(path, filepath.Join(j.root, from), 0o644)
	}
	if t.err != nil {
		return fmt.Errorf("fill archive: %w", t.err)
	}
	return writeArchive(filepath.Join(out, name+".tar.gz"), t.root, name, j.stamp.at)
}

// writeArchive packs a folder under another name, in order, as root's, of one time.
func writeArchive(path, root, name string, at time.Time) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	zipped, err := gzip.NewWriterLevel(file, gzip.BestCompression)
	if err != nil {
		return err
	}
	written := tar.NewWriter(zipped)
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return addTo(written, root, path, name, at)
	})
	return errors.Join(err, written.Close(), zipped.Close())
}

func addTo(written *tar.Writer, root, path, name string, at time.Time) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	below, err := filepath.Rel(root, path)
	if err != nil {
		return err
	}
	header := &tar.Header{Name: filepath.Join(name, below), Mode: int64(info.Mode().Perm()), ModTime: at, Typeflag: tar.TypeDir, Format: tar.FormatUSTAR}
	if info.IsDir() {
		header.Name += "/"
		return written.WriteHeader(header)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, int64(len(text))
	if err := written.WriteHeader(header); err != nil {
		return err
	}
	_, err = written.Write(text)
	return err
}

// sumsName is the file with the checksums of all others, for `sha256sum -c`.
const sumsName = "SHA256SUMS"

// checksums writes that file.
func checksums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(text), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, sumsName), []byte(sums.String()), 0o644)
}
