package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// notices are, by program, the licenses of what it holds beside our own code, as they want to be passed on.
type notices map[string]string

// collectNotices asks the Go tool what each program is made of, for all architectures at once, so that a package's text is the same for each.
func (j *job) collectNotices(ctx context.Context, _ string) error {
	goRoot, err := command(ctx, j.root, nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	j.thirdParty = notices{}
	for _, p := range j.wanted() {
		parts := map[string]string{"Go, its runtime and standard library": strings.TrimSpace(goRoot)}
		for _, arch := range architectures {
			cgo := map[bool]string{true: "CGO_ENABLED=1", false: "CGO_ENABLED=0"}[p.cgo]
			env := []string{"GOOS=linux", "GOARCH=" + arch, "GOFLAGS=", cgo}
			text, err := command(ctx, j.root, env, "go", "list", "-deps", "-tags", "netgo,osusergo",
				"-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", "./cmd/"+p.name)
			if err != nil {
				return err
			}
			for line := range strings.Lines(text) {
				if name, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
					parts[name] = dir
				}
			}
		}
		if j.thirdParty[p.name], err = noticesOf(p.name, parts); err != nil {
			return err
		}
		if !p.cgo {
			continue
		}
		license, err := os.ReadFile(cLibraryLicense)
		if err != nil {
			return fmt.Errorf("read the license of the C library: %w", err)
		}
		j.thirdParty[p.name] += cLibraryNotice + string(license)
	}
	return nil
}

// What a static program with C in it holds of the compiler's: GCC's own libraries may be passed on without a word (its runtime library
// exception), the C library not.
const (
	cLibraryLicense = "/usr/share/common-licenses/LGPL-2.1" // of Debian's base-files
	cLibraryNotice  = "\n==== GNU C Library\n\nIt may be replaced: link this program anew with another one, from its sources at " + homepage + " (make release).\n\n"
)

// noticesOf joins the licenses found in the folders of the parts; one without any is an error.
func noticesOf(program string, parts map[string]string) (string, error) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s is linked statically with the following.\n", program)
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		licenses, err := licensesIn(parts[name])
		if err == nil && len(licenses) == 0 {
			err = fmt.Errorf("no file with a license in %s", parts[name])
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("find the license of %s: %w", name, err))
		}
		fmt.Fprintf(&text, "\n==== %s\n", name)
		for _, l := range licenses {
			text.WriteString("\n" + strings.TrimSpace(l) + "\n")
		}
	}
	return text.String(), errors.Join(problems...)
}

// licensesIn reads the files of a folder, or of those above it, that are called so: some modules are a part of a larger one.
func licensesIn(dir string) ([]string, error) {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		var texts []string
		for _, e := range entries {
			if !e.Type().IsRegular() || !licenseName(e) {
				continue
			}
			text, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			texts = append(texts, string(text))
		}
		if len(texts) > 0 || strings.Contains(filepath.Base(dir), "@") || dir == filepath.Dir(dir) {
			return texts, nil
		}
		dir = filepath.Dir(dir)
	}
}

func licenseName(e fs.DirEntry) bool {
	name := strings.ToUpper(e.Name())
	return slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "PATENTS"}, func(begin string) bool { return strings.HasPrefix(name, begin) })
}
