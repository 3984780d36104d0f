package main

import "slices"

// Cell is what the runs of one fault on one system say together.
type Cell struct {
	Fault, System    string
	N, Void          int
	None, Late       int // runs without a new incarnation, and with one only after the fault was healed
	Gap, After       Spread
	Silence          Spread
	StaleRuns        int
	StaleMax         int
	Split, Nobody    int // runs with more than one writer at the end, and with none
	LoadMin, LoadMax float64
}

// Spread is of the runs that had a new incarnation, of Silence of all; in seconds.
type Spread struct{ P50, P99, Max float64 }

func spread(values []float64) Spread {
	return Spread{quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1)}
}

// cells groups the runs, in the order in which faults and systems appear. A cell with void runs only is there too.
func (r *Report) cells() []Cell {
	type key struct{ fault, system string }
	grouped, void := map[key][]Run{}, map[key]int{}
	var faultNames []string
	note := func(name string) {
		if !slices.Contains(faultNames, name) {
			faultNames = append(faultNames, name)
		}
	}
	for _, run := range r.Runs {
		note(run.Fault)
		k := key{run.Fault, run.System}
		grouped[k] = append(grouped[k], run)
	}
	for _, v := range r.Void {
		note(v.Fault)
		void[key{v.Fault, v.System}]++
	}
	var out []Cell
	for _, name := range faultNames {
		for _, system := range r.Systems {
			k := key{name, system.Name}
			if len(grouped[k])+void[k] == 0 {
				continue
			}
			c := cellOf(grouped[k])
			c.Fault, c.System, c.Void = name, system.Name, void[k]
			out = append(out, c)
		}
	}
	return out
}

func cellOf(runs []Run) Cell {
	c := Cell{N: len(runs)}
	var gaps, afters, silences, loads []float64
	for _, run := range runs {
		silences = append(silences, run.Silence)
		loads = append(loads, run.Load)
		c.StaleMax = max(c.StaleMax, run.Stale)
		c.StaleRuns += count(run.Stale > 0)
		c.Split += count(run.Writers > 1)
		c.Nobody += count(run.Writers == 0)
		c.Late += count(run.Late)
		if run.New == 0 {
			c.None++
			continue
		}
		gaps, afters = append(gaps, run.Gap), append(afters, run.After)
	}
	c.Gap, c.After, c.Silence = spread(gaps), spread(afters), spread(silences)
	c.LoadMin, c.LoadMax = quantile(loads, 0), quantile(loads, 1)
	return c
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}
