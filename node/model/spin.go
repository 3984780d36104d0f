package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed *.pml
var models embed.FS

// result is what a search found.
type result struct {
	Name string `json:"name"`
	// Kind is "world" or "mutant".
	Kind string `json:"kind"`
	// OK: a world in which everything holds, a mutant that is violated as it must be.
	OK     bool   `json:"ok"`
	States int    `json:"states"`
	Depth  int    `json:"depth"`
	Breaks string `json:"breaks,omitempty"`
	// Events is the counterexample in words, one for each thing that happens.
	Events  []string `json:"events,omitempty"`
	Seconds float64  `json:"seconds"`
	Problem string   `json:"problem,omitempty"`
}

// tooLong ends a search that would never.
const tooLong = 10 * time.Minute

// do compiles the model and searches it in a folder of its own.
func (s search) do(ctx context.Context) result {
	began := time.Now()
	r := result{Name: s.name, Kind: "world"}
	if s.breaks != kept {
		r.Kind = "mutant"
	}
	ctx, cancel := context.WithTimeout(ctx, tooLong)
	defer cancel()
	if err := s.searchInto(ctx, &r); err != nil {
		r.Problem = err.Error()
	}
	r.OK = r.Problem == ""
	r.Seconds = time.Since(began).Seconds()
	return r
}

func (s search) searchInto(ctx context.Context, r *result) error {
	dir, err := os.MkdirTemp("", "model-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.CopyFS(dir, models); err != nil {
		return err
	}
	if err := s.compile(ctx, dir); err != nil {
		return err
	}
	said, err := command(ctx, dir, "./pan", s.panFlags()...)
	if err != nil {
		return err
	}
	if err := r.read(said); err != nil {
		return err
	}
	if err := s.judge(said); err != nil || s.breaks == kept {
		return err
	}
	r.Breaks = s.breaks.String()
	r.Events, err = s.replay(ctx, dir)
	return err
}

func (s search) compile(ctx context.Context, dir string) error {
	if said, err := command(ctx, dir, "spin", append(s.definitions(), "-a", s.model)...); err != nil || strings.Contains(said, "Error:") {
		return errors.Join(err, errors.New(said))
	}
	flags := []string{"-w", "-o", "pan", "pan.c"}
	if s.breaks == kept {
		flags = append(flags, "-O2") // a mutant is found sooner than it is optimized
	}
	switch {
	case s.live():
		flags = append(flags, "-DNFAIR=4")
	case s.breaks != kept:
		flags = append(flags, "-DSAFETY", "-DBFS") // the shortest way there
	default:
		flags = append(flags, "-DSAFETY")
	}
	_, err := command(ctx, dir, "gcc", flags...)
	return err
}

func (s search) definitions() []string {
	var out []string
	for _, d := range s.world {
		out = append(out, "-D"+d)
	}
	if s.breaks != kept && s.breaks != served {
		out = append(out, fmt.Sprintf("-DCHECK=%d", s.breaks))
	}
	return out
}

// panFlags: -E, because a life may stop anywhere; -a -f, acceptance cycles under weak fairness.
func (s search) panFlags() []string {
	if s.live() {
		return []string{"-a", "-f", "-m1000000"}
	}
	return []string{"-E", "-m1000000"}
}

var (
	states = regexp.MustCompile(`(\d+) states, stored`)
	depth  = regexp.MustCompile(`depth reached (\d+), errors: (\d+)`)
	broken = regexp.MustCompile(`assertion violated .*\((\d+)==0\)`)
)

// read takes the figures from what pan said, and refuses a search that has left something out.
func (r *result) read(said string) error {
	s, d := states.FindStringSubmatch(said), depth.FindStringSubmatch(said)
	if s == nil || d == nil || strings.Contains(said, "max search depth too small") {
		return fmt.Errorf("the search was not whole: %s", said)
	}
	r.States, _ = strconv.Atoi(s[1])
	r.Depth, _ = strconv.Atoi(d[1])
	return nil
}

// judge wants exactly the violation that the search is about.
func (s search) judge(said string) error {
	found := kept
	switch violated := broken.FindStringSubmatch(said); {
	case strings.Contains(said, "acceptance cycle (at depth"):
		found = served
	case violated != nil:
		number, _ := strconv.Atoi(violated[1])
		found = property(number)
	case depth.FindStringSubmatch(said)[2] != "0":
		return fmt.Errorf("violated: %s", said)
	}
	switch {
	case found == s.breaks:
		return nil
	case found == kept:
		return fmt.Errorf("nothing is violated: the mutant is not seen")
	}
	return fmt.Errorf("violated: %s", found)
}

// replay tells the counterexample: what the model prints on the way, without where it prints it.
func (s search) replay(ctx context.Context, dir string) ([]string, error) {
	said, err := command(ctx, dir, "spin", append(s.definitions(), "-t", s.model)...)
	if err != nil {
		return nil, err
	}
	var events []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "spin:") && len(events) > 0 {
			break
		}
		if line != "" && !strings.HasPrefix(line, "spin:") && !strings.HasPrefix(line, "ltl ") && !strings.HasPrefix(line, "starting claim") && !strings.HasPrefix(line, "Never claim") {
			events = append(events, named(line))
		}
	}
	if len(events) == 0 {
		return nil, fmt.Errorf("no counterexample in %s", filepath.Base(dir))
	}
	return events, nil
}

// named puts a property's name where the model has its number.
func named(line string) string {
	number, found := strings.CutPrefix(line, "VIOLATED: property ")
	n, err := strconv.Atoi(number)
	if !found || err != nil {
		return line
	}
	return "violated: " + property(n).String()
}

// command returns what a program said. pan and spin -t exit with other codes than 0 for what is no failure of theirs.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && name != "gcc" && ctx.Err() == nil && exit.Exited() {
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, out.String())
	}
	return out.String(), nil
}
