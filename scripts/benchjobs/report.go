package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"
)

// Report is what was measured.
type Report struct {
	Jobs int `json:"jobs"`
	// Started is how long it took from the start of the daemons until all jobs were active, First how many each host had then.
	Started float64        `json:"started_seconds"`
	First   map[string]int `json:"first"`
	// Spread is how long an operator's first spread took.
	Spread float64 `json:"spread_seconds"`

	// At rest, for so long.
	For     float64  `json:"for_seconds"`
	Daemons []Daemon `json:"daemons"`
	// Sessions are those of the fencers, Postgres what they take, in % of one core.
	Sessions int     `json:"sessions"`
	Postgres float64 `json:"postgres_cpu_percent"`
	// Entries of the raft log a second; one is raft's own or the status's.
	Entries float64 `json:"log_entries_per_second"`
	// Load is the machine's then, LoadAfter after the kills.
	Load      float64 `json:"load"`
	LoadAfter float64 `json:"load_after"`

	// Kills are, by the host that was killed, the seconds until each of its jobs was started elsewhere.
	Kills map[string][]float64 `json:"kills"`

	broken []string
}

// Daemon is one daemon at rest, its children not included. CPU is in % of one core, RSS in MB of 2^20 bytes.
type Daemon struct {
	Host string  `json:"host"`
	CPU  float64 `json:"cpu_percent"`
	RSS  float64 `json:"rss_mb"`
}

func (r *Report) table(out io.Writer) error {
	fmt.Fprintf(out, "%d jobs; all active %.1f s after the start of the daemons, on %v; spread in %.1f s\n\n", r.Jobs, r.Started, r.First, r.Spread)
	fmt.Fprintf(out, "at rest for %.0f s, load %.1f: %.2f log entries/s, %d fencers' sessions, Postgres %.1f %% of a core for them\n\n",
		r.For, r.Load, r.Entries, r.Sessions, r.Postgres)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "daemon\tCPU % of a core\tRSS MB\t")
	for _, d := range r.Daemons {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t\n", d.Host, d.CPU, d.RSS)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "host killed\tserved again p50\tp99\tmax\tn\t")
	var all []float64
	for _, host := range slices.Sorted(maps.Keys(r.Kills)) {
		writeQuantiles(w, host, r.Kills[host])
		all = append(all, r.Kills[host]...)
	}
	writeQuantiles(w, "both", all)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nload after the kills: %.1f\n", r.LoadAfter)
	return err
}

func writeQuantiles(w io.Writer, name string, took []float64) {
	q := quantilesOf(took)
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t\n", name, q.p50, q.p99, q.max, q.n)
}

// quantiles are of times, by nearest rank.
type quantiles struct {
	p50, p99, max time.Duration
	n             int
}

func (q quantiles) String() string { return fmt.Sprintf("p50 %s, p99 %s, max %s", q.p50, q.p99, q.max) }

// quantilesOf rounds to milliseconds; of nothing they are 0.
func quantilesOf(seconds []float64) quantiles {
	sorted := slices.Sorted(slices.Values(seconds))
	n := len(sorted)
	if n == 0 {
		return quantiles{}
	}
	at := func(percent int) time.Duration {
		rank := max((n*percent+99)/100, 1)
		return time.Duration(sorted[rank-1] * float64(time.Second)).Round(time.Millisecond)
	}
	return quantiles{p50: at(50), p99: at(99), max: at(100), n: n}
}
