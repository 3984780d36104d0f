package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "only mutants with this in their name")
	flag.Parse()
	if err := run(os.Stdout, flag.Args(), *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run plays the mutants of the files, and returns an error unless each was seen.
func run(out io.Writer, files []string, only string) error {
	var all []mutant
	for _, file := range files {
		found, err := read(file)
		if err != nil {
			return err
		}
		all = append(all, slices.DeleteFunc(found, func(m mutant) bool { return !strings.Contains(m.name, only) })...)
	}
	if len(all) == 0 {
		return errors.New("nothing to do: name a mutants.txt")
	}
	seen, missed := 0, 0
	sound := map[string]error{}
	for _, m := range all {
		for _, r := range m.runs() {
			began := time.Now()
			err := r.play(sound)
			verdict := "seen"
			if err != nil {
				verdict = "NOT SEEN: " + err.Error()
				missed++
			} else {
				seen++
			}
			fmt.Fprintf(out, "%-60s %-2s %s (%s, %.0f s)\n", m.name, r.version, verdict, r.test, time.Since(began).Seconds())
		}
	}
	fmt.Fprintf(out, "%d seen, %d not seen\n", seen, missed)
	if missed > 0 {
		return fmt.Errorf("%d mutants were not seen", missed)
	}
	return nil
}

// trial is a mutant with one of its tests, on one of its servers.
type trial struct {
	mutant
	test, version string
}

func (m mutant) runs() (all []trial) {
	for _, test := range m.tests {
		for _, version := range m.on {
			all = append(all, trial{m, test, version})
		}
	}
	return all
}

// play returns nil when the test fails with the mutant and passes without. sound remembers the latter.
func (r trial) play(sound map[string]error) error {
	text, err := r.apply()
	if err != nil {
		return err
	}
	key := strings.Join([]string{r.dir, r.test, r.tags, r.version}, " ")
	if _, known := sound[key]; !known {
		_, sound[key] = r.runTest("")
	}
	if sound[key] != nil {
		return fmt.Errorf("the test does not pass without it: %w", sound[key])
	}
	work, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	overlay, err := r.overlay(work, text)
	if err != nil {
		return err
	}
	output, err := r.runTest(overlay)
	switch {
	case err == nil:
		return errors.New("the test passes")
	case !strings.Contains(output, "--- FAIL: "+r.test):
		return fmt.Errorf("the test did not run to its end: %w", err)
	}
	return nil
}

// overlay writes what the compiler is to read in place of the file.
func (m mutant) overlay(work string, text []byte) (string, error) {
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	changed := filepath.Join(work, "changed"+filepath.Ext(m.file))
	table, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(work, "overlay.json")
	return overlay, errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, table, 0o600))
}

// runTest runs the test; the error holds the end of what it said.
func (r trial) runTest(overlay string) (string, error) {
	args := []string{"test", "-count=1", "-timeout=5m", "-run=^" + r.test + "$", "-tags=" + r.tags}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	command := exec.Command("go", append(args, ".")...)
	command.Dir = r.dir
	command.Env = os.Environ()
	if r.version != "" {
		bin, err := serverBin(r.version)
		if err != nil {
			return "", err
		}
		command.Env = append(command.Env, "DUOFLOW_PG_BIN="+bin)
	}
	output, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, output[max(0, len(output)-2000):])
	} else if strings.Contains(string(output), "no tests to run") {
		err = errors.New("there is no such test")
	}
	return string(output), err
}

// serverBin finds a server that scripts/test-pg has fetched.
func serverBin(version string) (string, error) {
	cache := os.Getenv("DUOFLOW_PG_CACHE")
	if cache == "" {
		cache = ".cache/pg"
	}
	found, err := filepath.Glob(filepath.Join(cache, version+".*", "bin"))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("no Postgres %s in %s: scripts/test-pg %s fetches it", version, cache, version)
	}
	return filepath.Abs(found[len(found)-1])
}
