package main

import (
	"fmt"
	"maps"
	"slices"
)

// broken says in which runs duoflow did not keep its promise. Time is no part of it, and no peer is judged.
func (r *Report) broken() []string {
	var out []string
	for _, run := range r.Runs {
		if own(run.System) && (run.Stale > 0 || run.Shared > 0 || run.Writers != 1) {
			out = append(out, fmt.Sprintf("%s of %s: %s", run.Fault, run.At.Format("15:04:05"), run))
		}
	}
	for _, kill := range r.Airflow.Kills {
		if why := kill.broken(); why != "" {
			out = append(out, fmt.Sprintf("%s, kill of %s: %s: %s", kill.System, kill.At.Format("15:04:05"), why, kill))
		}
	}
	return out
}

// broken says which promise was broken, empty: none, or a native scheduler, which has promised nothing.
func (k *Kill) broken() string {
	switch {
	case k.System == native:
		return ""
	case k.Stale > 0:
		return fmt.Sprintf("%d commits of an old epoch after a newer one's first", k.Stale)
	case k.Twice > 0:
		return fmt.Sprintf("%d tasks ran twice", k.Twice)
	case k.Never > 0 || k.Failed > 0:
		return fmt.Sprintf("%d tasks did not run, %d runs failed", k.Never, k.Failed)
	case k.First.Over || k.Again != nil && k.Again.Over || k.Adopted != nil && k.Adopted.Over:
		return "nobody went on with the work"
	case k.Note != "":
		return k.Note
	}
	return ""
}

// lacking lists what was planned and not measured, and what shows nothing although it was.
func (r *Report) lacking() []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(r.Plan)) {
		if have := r.have(key); have < r.Plan[key] {
			out = append(out, fmt.Sprintf("%s: %d of %d runs", key, have, r.Plan[key]))
		}
	}
	for _, c := range r.cells() {
		if c.N == 0 {
			out = append(out, fmt.Sprintf("%s on %s: no valid run, %d void", c.Fault, c.System, c.Void))
		}
	}
	for _, kill := range r.Airflow.Kills {
		if kill.Tasks == 0 || kill.System != native && kill.Rows == 0 {
			out = append(out, fmt.Sprintf("%s, kill of %s: no work was seen", kill.System, kill.At.Format("15:04:05")))
		}
	}
	return out
}
