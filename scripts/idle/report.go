package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is what was measured.
type Report struct {
	Detection string    `json:"detection"`
	For       float64   `json:"for_seconds"`
	Processes []Figures `json:"processes"`
}

// Figures are one process's. CPU is in % of one core, from the scheduler's own clock; Ticks is the same from utime and
// stime, which the timer interrupt samples and a program that sleeps most of the time can escape.
type Figures struct {
	Name     string  `json:"name"`
	Own      bool    `json:"own"`
	CPU      float64 `json:"cpu_percent"`
	Ticks    float64 `json:"cpu_percent_ticks"`
	Wakeups  float64 `json:"wakeups_per_second"` // voluntary context switches: each is one sleep
	Switches float64 `json:"switches_per_second"`
	RSS      float64 `json:"rss_mb"`
	PSS      float64 `json:"pss_mb"`
}

// clockTicks per second, as /proc shows them on every Linux that Go runs on.
const clockTicks = 100

func figures(w watched, before, after look) Figures {
	f := Figures{Name: w.name, Own: w.own, RSS: float64(after.resident) / 1024, PSS: float64(after.proportional) / 1024}
	seconds := after.at.Sub(before.at).Seconds()
	var ran time.Duration
	var slices, waits uint64
	for id, now := range after.threads {
		then := before.threads[id]
		ran += now.ran - then.ran
		slices += now.slices - then.slices
		waits += now.waits - then.waits
	}
	f.CPU = 100 * ran.Seconds() / seconds
	f.Ticks = 100 * float64(after.ticks-before.ticks) / clockTicks / seconds
	f.Wakeups, f.Switches = float64(waits)/seconds, float64(slices)/seconds
	return f
}

func (r *Report) table(out io.Writer) error {
	fmt.Fprintf(out, "idle for %.0f s, detection %s\n\n", r.For, r.Detection)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "process\tCPU % of a core\tby ticks\twake-ups/s\tswitches/s\tRSS MB\tPSS MB\t")
	for _, f := range r.Processes {
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.0f\t%.0f\t%.1f\t%.1f\t\n",
			f.Name, f.CPU, f.Ticks, f.Wakeups, f.Switches, f.RSS, f.PSS)
	}
	return w.Flush()
}

// above says which of our daemons use more than they may; a limit of 0 is none.
func (r *Report) above(cpu, rss float64) []string {
	var out []string
	for _, f := range r.Processes {
		if f.Own && cpu > 0 && f.CPU > cpu {
			out = append(out, fmt.Sprintf("%s uses %.2f %% of a core, more than %.2f %%", f.Name, f.CPU, cpu))
		}
		if f.Own && rss > 0 && f.RSS > rss {
			out = append(out, fmt.Sprintf("%s holds %.1f MB, more than %.1f MB", f.Name, f.RSS, rss))
		}
	}
	return out
}
