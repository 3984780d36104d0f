package main

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// architectures are Go's and Debian's names at once.
var architectures = []string{"amd64", "arm64"}

// compilers are the C compilers that DuckDB is linked with, for each architecture.
var compilers = map[string]string{"amd64": "x86_64-linux-gnu-", "arm64": "aarch64-linux-gnu-"}

// product is a program, and how it is built.
type product struct {
	name string
	// cgo: it holds C++ (DuckDB), which is linked statically too. Host names are then still looked up by Go, and users read from /etc/passwd.
	cgo bool
	// only is the one architecture that it is built for; "" is each.
	only string
}

func (p product) builtFor(arch string) bool { return p.only == "" || p.only == arch }

// duoetl cannot be linked statically for arm64: Debian's C library there was compiled for a small table of addresses (-fpic), and DuckDB's is not.
var products = []product{{name: "duoflowd"}, {name: "duoctl"}, {name: "duoetl", cgo: true, only: "amd64"}}

func programNames() []string {
	names := make([]string, 0, len(products))
	for _, p := range products {
		names = append(names, p.name)
	}
	return names
}

// wanted are the products that were asked for.
func (j *job) wanted() []product {
	var some []product
	for _, p := range products {
		for _, name := range j.programs {
			if p.name == name {
				some = append(some, p)
			}
		}
	}
	return some
}

// binary is where a built program is.
func (j *job) binary(arch, name string) string { return filepath.Join(j.work, "bin", arch, name) }

func (j *job) buildAll(ctx context.Context, _ string) error {
	for _, arch := range j.archs {
		for _, p := range j.wanted() {
			if !p.builtFor(arch) {
				continue
			}
			if err := j.build(ctx, p, arch); err != nil {
				return err
			}
			if err := static(j.binary(arch, p.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// build leaves nothing to the machine: no path, no version control, no setting of the user's, the oldest processors.
func (j *job) build(ctx context.Context, p product, arch string) error {
	flags := "-s -w -buildid= -X main.version=" + j.stamp.linked()
	env := []string{"GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "CGO_ENABLED=0"}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-mod=readonly"}
	if p.cgo {
		flags += ` -linkmode external -extldflags "-static -Wl,--build-id=none"`
		args = append(args, "-tags", "netgo,osusergo")
		env = append(env, "CGO_ENABLED=1", "CC="+compilers[arch]+"gcc", "CXX="+compilers[arch]+"g++",
			"CGO_CFLAGS=-O2 -g0", "CGO_CXXFLAGS=-O2 -g0", "CGO_CPPFLAGS=", "CGO_LDFLAGS=", j.stamp.epoch())
	}
	if j.scratch != "" {
		cache, err := filepath.Abs(j.scratch)
		if err != nil {
			return err
		}
		env = append(env, "GOCACHE="+cache)
	}
	out := j.binary(arch, p.name)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	_, err := command(ctx, j.root, env, "go", append(args, "-ldflags", flags, "-o", out, "./cmd/"+p.name)...)
	return err
}

// static refuses a program that would look for libraries where it is installed.
func static(path string) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	defer func() { _ = file.Close() }() // it was only read
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	if len(libraries) > 0 {
		return fmt.Errorf("%s wants %v: it is not static", path, libraries)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s wants a loader: it is not static", path)
		}
	}
	return nil
}

// native is a built program that this machine can run.
func (j *job) native(ctx context.Context, p product) (string, error) {
	path := j.binary(runtime.GOARCH, p.name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, j.build(ctx, p, runtime.GOARCH)
}
