package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/figures"
)

// Report is a whole benchmark: every single run, so that whatever is said of them can be computed again.
type Report struct {
	Started  time.Time
	CPUs     int
	Kernel   string
	Go       string
	Postgres int // major version, of the stub part
	// Plan is how many runs or kills there are to be, by stubKey or airflowKey.
	Plan     map[string]int
	Sittings []Sitting
	Systems  []About
	Runs     []Run
	Void     []Void      `json:",omitempty"`
	Airflow  AirflowPart `json:"airflow"`
}

// Sitting is one start of the program: an interrupted benchmark is resumed.
type Sitting struct {
	Started time.Time
	Commit  string // of the repository
	Took    float64
}

// AirflowPart is what was measured on the real Airflow.
type AirflowPart struct {
	Versions string
	Cap      float64 // seconds that native schedulers' tasks were waited for
	Kills    []*Kill
}

// Void is a run that was thrown away, and why.
type Void struct{ Fault, System, Why string }

func stubKey(fault, system string) string { return fault + "/" + system }
func airflowKey(system string) string     { return "airflow/" + system }

// kindOf is the pace that a key of the plan goes at.
func kindOf(key string) string {
	if system, ok := strings.CutPrefix(key, "airflow/"); ok {
		return system
	}
	return stub
}

// have is how many valid runs or kills there are under a key of the plan.
func (r *Report) have(key string) int {
	n := 0
	for _, run := range r.Runs {
		n += count(stubKey(run.Fault, run.System) == key)
	}
	for _, kill := range r.Airflow.Kills {
		n += count(airflowKey(kill.System) == key)
	}
	return n
}

func newReport() *Report {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease") // only for people to read
	return &Report{
		Started: time.Now(), CPUs: runtime.NumCPU(), Go: runtime.Version(), Kernel: string(trimNewline(kernel)),
		Plan: map[string]int{},
	}
}

// merge adds another part of the same benchmark: other faults, other systems, or more runs of the same.
func (r *Report) merge(other *Report) error {
	if r.CPUs != other.CPUs || r.Kernel != other.Kernel || r.Postgres != other.Postgres && r.Postgres*other.Postgres != 0 {
		return fmt.Errorf("put reports together: %d processors, Linux %s, Postgres %d against %d, %s, %d: not the same machine",
			r.CPUs, r.Kernel, r.Postgres, other.CPUs, other.Kernel, other.Postgres)
	}
	if other.Started.Before(r.Started) {
		r.Started = other.Started
	}
	r.Postgres = max(r.Postgres, other.Postgres)
	for key, want := range other.Plan {
		r.Plan[key] += want
	}
	r.Sittings = append(r.Sittings, other.Sittings...)
	for _, about := range other.Systems {
		if !slices.ContainsFunc(r.Systems, func(a About) bool { return a.Name == about.Name }) {
			r.Systems = append(r.Systems, about)
		}
	}
	r.Runs, r.Void = append(r.Runs, other.Runs...), append(r.Void, other.Void...)
	r.Airflow.Kills = append(r.Airflow.Kills, other.Airflow.Kills...)
	if r.Airflow.Versions == "" {
		r.Airflow.Versions, r.Airflow.Cap = other.Airflow.Versions, other.Airflow.Cap
	}
	return nil
}

func trimNewline(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		return text[:n-1]
	}
	return text
}

// write replaces the file as a whole; it has a line for each run, so that it can be read with grep, and kept.
func (r *Report) write(path string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	for _, first := range []string{"Fault", "System", "Name", "Started", "Plan"} {
		text = bytes.ReplaceAll(text, []byte(`{"`+first+`":`), []byte("\n"+`{"`+first+`":`)) // in a text the quotes would be \"
	}
	return figures.Replace(path, append(bytes.TrimPrefix(text, []byte("\n")), '\n'))
}

// readReports reads one report, or several separated by commas as one.
func readReports(paths string) (*Report, error) {
	var whole *Report
	for path := range strings.SplitSeq(paths, ",") {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read report: %w", err)
		}
		r := &Report{}
		if err := json.Unmarshal(text, r); err != nil {
			return nil, fmt.Errorf("read report %s: %w", path, err)
		}
		if r.Plan == nil {
			r.Plan = map[string]int{}
		}
		if whole == nil {
			whole = r
		} else if err := whole.merge(r); err != nil {
			return nil, err
		}
	}
	return whole, nil
}
