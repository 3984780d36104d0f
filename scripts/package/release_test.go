//go:build packages

package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// freshVariable has the second build find nothing of what the first one has compiled. That takes long.
const freshVariable = "FRESH"

// lintian has nothing to say of any package, but for what its overrides explain.
func lintian(t *testing.T, dist string) {
	t.Helper()
	debs, err := filepath.Glob(filepath.Join(dist, "*.deb"))
	if err != nil || len(debs) == 0 {
		t.Fatalf("no packages in %s, %v", dist, err)
	}
	said := outside(t, append([]string{"lintian", "--allow-root", "--display-info", "--tag-display-limit", "0", "--fail-on", "error,warning,info"}, debs...)...)
	if strings.TrimSpace(said) != "" {
		t.Error(said)
	}
}

// foreign: programs for the other architecture run too, in an emulator.
func foreign(t *testing.T, dist string) {
	t.Helper()
	other, emulator := "arm64", "qemu-aarch64-static"
	if runtime.GOARCH == other {
		other, emulator = "amd64", "qemu-x86_64-static"
	}
	archives, err := filepath.Glob(filepath.Join(dist, "*_linux_"+other+".tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("archives for %s: %v, %v", other, archives, err)
	}
	dir := t.TempDir()
	outside(t, "tar", "-C", dir, "--strip-components=1", "-xzf", archives[0])
	for _, args := range []string{"duoflowd version", "duoctl version --client -o json"} {
		words := strings.Fields(args)
		if said := outside(t, append([]string{emulator, filepath.Join(dir, "bin", words[0])}, words[1:]...)...); said == "" {
			t.Errorf("%s says nothing", args)
		}
	}
}

// reproducible: a build in another folder, by another path to the same sources, gives the same bytes.
func reproducible(t *testing.T, dist string) {
	t.Helper()
	elsewhere := filepath.Join(t.TempDir(), "some", "where", "else")
	outside(t, "git", "clone", "--quiet", "--no-hardlinks", ".", elsewhere)
	changed := outside(t, "git", "ls-files", "--modified", "--others", "--exclude-standard")
	for path := range strings.Lines(changed) {
		path = strings.TrimSpace(path)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(elsewhere, path)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(elsewhere, path), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"env", "-C", elsewhere, "TZ=Pacific/Auckland", "LC_ALL=C", "sh", "-c", `umask 077; exec go run ./scripts/package -out made "$@"`, "sh"}
	if os.Getenv(freshVariable) != "" {
		args = append(args, "-gocache", filepath.Join(t.TempDir(), "cache"))
	}
	outside(t, args...)
	first, err := os.ReadFile(filepath.Join(dist, sumsName))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(elsewhere, "made", sumsName))
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(second) {
		t.Errorf("two builds differ:\n%s\n%s", first, second)
	}
	outside(t, "env", "-C", dist, "sha256sum", "--quiet", "-c", sumsName)
}
