package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// allowance is how much more of something there may be in the last quarter than in the second: a share of what was there, and a
// constant in the thing's own unit.
type allowance struct {
	ends  string // of the name
	share float64
	plus  float64
	why   string
}

// allowances are by the end of a name; the first that fits holds. What has none may not grow at all.
var allowances = []allowance{
	{"rss_mb", 0.10, 3, "Go gives memory back late"},
	{"heap_goal_mb", 0.10, 2, "is set at each collection"},
	{"open_files", 0.10, 4, "connections come and go"},
	{"goroutines", 0.10, 8, "so do calls"},
	{"threads", 0.10, 3, "one for each call that waited in the kernel at the same time"},
	{"raft_kb", 0, 5120, "the log is cut after 10,000 commands, 2 kB for each change of hosts; its file keeps the pages"},
	{"jobs_kb", 0, 4096, "output is kept up to a limit, and a file is cut when it is full"},
	{"jobs_files", 0, 8, "directories of lives under way, and full files of output"},
	{"roles", 0, 16, "of old epochs the last ones are kept, and dropped now and then"},
	{"sessions", 0.10, 4, "of lives under way"},
	{"_kb", 0.10, 256, "tables: until vacuum has been there"},
}

func allowed(name string) allowance {
	for _, a := range allowances {
		if strings.HasSuffix(name, a.ends) {
			return a
		}
	}
	return allowance{}
}

// Verdict is what is thought of one series.
type Verdict struct {
	Name    string     `json:"name"`
	Samples int        `json:"samples"`
	Quarter [4]float64 `json:"quarter_medians"`
	Limit   float64    `json:"limit"`    // for the median of the last quarter
	PerHour float64    `json:"per_hour"` // slope over all but the first quarter; least squares
	Flat    bool       `json:"flat"`
}

// Report is of a run.
type Report struct {
	Hours   float64        `json:"hours"`
	Samples int            `json:"samples"`
	Events  map[string]int `json:"events,omitempty"`
	Series  []Verdict      `json:"series"`
}

// leastSamples of a series in each quarter; a median of fewer says little.
const leastSamples = 3

// judge looks at each series. A series that stops, or begins late, is an error: what is not seen cannot be flat.
func judge(samples []Sample) (*Report, error) {
	if len(samples) < 4*leastSamples {
		return nil, fmt.Errorf("%d samples; want %d at least", len(samples), 4*leastSamples)
	}
	slices.SortStableFunc(samples, func(a, b Sample) int { return cmp.Compare(a.Seconds, b.Seconds) })
	begin, end := samples[0].Seconds, samples[len(samples)-1].Seconds
	if end <= begin {
		return nil, errors.New("all samples are of one time")
	}
	names := map[string]bool{}
	for _, s := range samples {
		for name := range s.Values {
			names[name] = true
		}
	}
	if len(names) == 0 {
		return nil, errors.New("there is nothing in the samples")
	}
	r := &Report{Hours: (end - begin) / 3600, Samples: len(samples)}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		v, err := judgeOne(name, samples, begin, end)
		if err != nil {
			return nil, err
		}
		r.Series = append(r.Series, v)
	}
	return r, nil
}

func judgeOne(name string, samples []Sample, begin, end float64) (Verdict, error) {
	v := Verdict{Name: name}
	var quarters [4][]float64
	var at, late []float64 // after the first quarter
	for _, s := range samples {
		value, ok := s.Values[name]
		if !ok {
			continue
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return v, fmt.Errorf("%s is %v after %.0f s", name, value, s.Seconds)
		}
		v.Samples++
		quarter := min(3, int(4*(s.Seconds-begin)/(end-begin)))
		quarters[quarter] = append(quarters[quarter], value)
		if quarter > 0 {
			at, late = append(at, s.Seconds/3600), append(late, value)
		}
	}
	for i, values := range quarters {
		if len(values) < leastSamples {
			return v, fmt.Errorf("%s has %d samples in quarter %d; want %d at least", name, len(values), i+1, leastSamples)
		}
		v.Quarter[i] = median(values)
	}
	a := allowed(name)
	v.Limit = v.Quarter[1]*(1+a.share) + a.plus
	v.Flat, v.PerHour = v.Quarter[3] <= v.Limit, slope(at, late)
	return v, nil
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// slope is that of the straight line that is nearest to the points, by least squares; 0 if they are all at one x.
func slope(x, y []float64) float64 {
	var meanX, meanY, above, below float64
	for i := range x {
		meanX += x[i] / float64(len(x))
		meanY += y[i] / float64(len(x))
	}
	for i := range x {
		above += (x[i] - meanX) * (y[i] - meanY)
		below += (x[i] - meanX) * (x[i] - meanX)
	}
	if below == 0 {
		return 0
	}
	return above / below
}

func (r *Report) broken() (all []string) {
	for _, v := range r.Series {
		if !v.Flat {
			all = append(all, fmt.Sprintf("%s is not flat: median %.1f in the second quarter, %.1f in the last, more than %.1f; %+.1f per hour",
				v.Name, v.Quarter[1], v.Quarter[3], v.Limit, v.PerHour))
		}
	}
	return all
}
