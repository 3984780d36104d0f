package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// trial is a mutant with one of its tests, on one of its servers.
type trial struct {
	mutant
	test, version string
}

func (m mutant) trials() (all []trial) {
	for _, test := range m.tests {
		for _, version := range m.on {
			all = append(all, trial{m, test, version})
		}
	}
	return all
}

// soundness remembers which tests pass on the code as it is.
type soundness struct {
	mu    sync.Mutex
	tests map[string]*sounded
}

type sounded struct {
	once sync.Once
	err  error
}

func (s *soundness) of(r trial) error {
	key := strings.Join([]string{r.dir, r.test, r.tags, r.version}, " ")
	s.mu.Lock()
	known := s.tests[key]
	if known == nil {
		known = &sounded{}
		s.tests[key] = known
	}
	s.mu.Unlock()
	known.once.Do(func() { _, known.err = r.runTest("") })
	return known.err
}

func (r trial) judge(sound *soundness) verdict {
	began := time.Now()
	by := r.test
	if r.version != "" {
		by += ", Postgres " + r.version
	}
	v := verdict{Mutant: r.name, Of: r.file, By: by, Caught: true}
	after, said, err := r.play(sound)
	if err != nil {
		v.Caught, v.Why = false, err.Error()
	}
	v.said = said
	v.After, v.Took = after, time.Since(began).Seconds()
	return v
}

// failed is the line with which a test of the package says that it failed, and after how many seconds.
func failed(test, output string) (after float64, ok bool) {
	line := regexp.MustCompile(`(?m)^ *--- FAIL: ` + regexp.QuoteMeta(test) + ` \((\d+\.\d+)s\)`).FindStringSubmatch(output)
	if line == nil {
		return 0, false
	}
	after, err := strconv.ParseFloat(line[1], 64)
	return after, err == nil
}

// play returns nil, what the test said and how long it took, when the test fails with the mutant and passes without.
func (r trial) play(sound *soundness) (after float64, said string, err error) {
	text, err := r.apply()
	if err != nil {
		return 0, "", err
	}
	if err := sound.of(r); err != nil {
		return 0, "", fmt.Errorf("the test does not pass without it: %w", err)
	}
	work, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	overlay, err := r.overlay(work, text)
	if err != nil {
		return 0, "", err
	}
	output, err := r.runTest(overlay)
	if err == nil {
		return 0, output, errors.New("the test passes")
	}
	after, ok := failed(r.test, output)
	if !ok {
		return 0, output, fmt.Errorf("the test did not run to its end: %w", err)
	}
	return after, output, nil
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
	args := []string{"test", "-count=1", "-timeout=5m", "-run=^" + strings.ReplaceAll(r.test, "/", "$/^") + "$", "-tags=" + r.tags}
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
