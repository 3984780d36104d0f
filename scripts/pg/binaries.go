package pg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
)

// BinEnv names the environment variable with the folder of the Postgres programs to use when
// Options.Bin is empty.
const BinEnv = "DUOFLOW_PG_BIN"

const debianBins = "/usr/lib/postgresql/*/bin"

// ErrNoBinaries says that no Postgres server programs were found on this machine.
var ErrNoBinaries = errors.New("no Postgres server programs found in " + debianBins +
	": install the Debian package postgresql (apt-get install postgresql), or name their folder in " + BinEnv)

// findBin returns the folder that holds initdb and postgres: asked, else BinEnv, else Debian's newest.
func findBin(asked string) (string, error) {
	if asked == "" {
		asked = os.Getenv(BinEnv)
	}
	if asked != "" {
		if !hasServer(asked) {
			return "", fmt.Errorf("find initdb and postgres in %s: %w", asked, ErrNoBinaries)
		}
		return filepath.Abs(asked)
	}
	found, err := filepath.Glob(debianBins)
	if err != nil {
		return "", fmt.Errorf("list %s: %w", debianBins, err)
	}
	sort.Slice(found, func(i, j int) bool { return debianVersion(found[i]) > debianVersion(found[j]) })
	for _, bin := range found {
		if hasServer(bin) {
			return bin, nil
		}
	}
	return "", ErrNoBinaries
}

func hasServer(bin string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(bin, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// debianVersion reads the 15 of /usr/lib/postgresql/15/bin; 0 when it is no number.
func debianVersion(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// majorVersion asks the program itself, since a folder may be named anything.
func majorVersion(bin string) (int, error) {
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("run postgres --version: %w", err)
	}
	found := versionLine.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("read version of postgres: unknown answer %q", out)
	}
	return strconv.Atoi(string(found[1]))
}
