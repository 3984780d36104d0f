package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// The plot: one band per fault, and per question to the real Airflow; in it one line per system; a dot per run, a bar at
// the median, time on a logarithmic axis. A cross is a run with stale rows: its gap is no achievement. A ring is a run in
// which nobody took over; it lies at the longest time without any row, or where nobody waited any more.
const (
	plotLeft, plotWidth, plotRight = 300.0, 640.0, 40.0
	lineHeight, bandGap, plotTop   = 17.0, 14.0, 76.0
	shortest, longest              = 0.001, 1000.0 // seconds
)

var colours = map[string]string{
	ours: "#1b6e3c", oursFast: "#6aa84f", "etcd": "#1f5fa8", "keepalived": "#b25c00", "advisory": "#7a3e9d",
	warm: "#1b6e3c", cold: "#6aa84f", native: "#1f5fa8",
}

// kinds of marks.
const (
	dot   = iota
	cross // the old owner went on
	ring  // nobody took over
)

type mark struct {
	at   float64 // seconds
	kind int
}

// strip is one line of the plot.
type strip struct {
	label  string
	marks  []mark
	median float64 // 0: none
}

type band struct {
	title  string
	strips []strip
}

// axis is where a time in seconds lies; what is out of range lies at the edge.
func axis(v float64) float64 {
	v = min(max(v, shortest), longest)
	return plotLeft + plotWidth*(math.Log10(v)-math.Log10(shortest))/(math.Log10(longest)-math.Log10(shortest))
}

func plot(r *Report) string {
	var body strings.Builder
	y := plotTop
	for i, b := range r.bands() {
		if i > 0 {
			fmt.Fprintf(&body, `<line x1="8" x2="%.0f" y1="%.1[2]f" y2="%.1[2]f" stroke="#bbb"/>`+"\n", plotLeft+plotWidth, y-4)
		}
		y += bandGap
		fmt.Fprintf(&body, `<text x="8" y="%.0f" font-weight="bold">%s</text>`+"\n", y+4, html.EscapeString(b.title))
		for _, s := range b.strips {
			s.draw(&body, y)
			y += lineHeight
		}
	}
	height, width := y+bandGap, plotLeft+plotWidth+plotRight
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0[1]f" height="%.0[2]f" font-family="sans-serif" font-size="11">`+"\n",
		width, height)
	fmt.Fprintf(&out, `<rect width="%.0f" height="%.0f" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&out, `<text x="8" y="18" font-size="14">Time without an effective writer (stub job), and until a real Airflow goes on, by fault</text>`+"\n")
	fmt.Fprintf(&out, `<text x="8" y="34" fill="#555">n up to %d; load average at the faults %s. dot: a run; bar: median; red cross: the old owner committed after the new one;</text>`+"\n",
		r.most(), r.loads())
	fmt.Fprintln(&out, `<text x="8" y="48" fill="#555">ring: nobody took over: longest time without a row, or the end of waiting</text>`)
	for v := shortest; v <= longest*1.001; v *= 10 {
		fmt.Fprintf(&out, `<line x1="%[1]f" x2="%[1]f" y1="%[2]f" y2="%[3]f" stroke="#ddd"/><text x="%[1]f" y="%[4]f" text-anchor="middle">%[5]s</text>`+"\n",
			axis(v), plotTop-4, height-8, plotTop-8, label(v))
	}
	return out.String() + body.String() + "</svg>\n"
}

func label(v float64) string {
	if v < 0.9999 {
		return fmt.Sprintf("%.0f ms", v*1000)
	}
	return fmt.Sprintf("%.0f s", v)
}

func (r *Report) most() int {
	n := 0
	for _, c := range r.cells() {
		n = max(n, c.N)
	}
	for _, c := range r.airflowCells() {
		n = max(n, c.N)
	}
	return n
}

func (r *Report) bands() []band {
	var out []band
	for _, c := range r.cells() {
		if len(out) == 0 || out[len(out)-1].title != c.Fault {
			out = append(out, band{title: c.Fault})
		}
		s := strip{label: c.System}
		for _, run := range r.Runs {
			if run.Fault == c.Fault && run.System == c.System {
				s.marks = append(s.marks, run.mark())
			}
		}
		if c.N > c.None+c.StaleRuns { // the median of splits says nothing
			s.median = c.Gap.P50
		}
		out[len(out)-1].strips = append(out[len(out)-1].strips, s)
	}
	for _, question := range []struct {
		title string
		of    func(AirflowCell) takeover.Summary
	}{
		{"Airflow: first task queued", func(c AirflowCell) takeover.Summary { return c.First }},
		{"Airflow: tasks adopted", func(c AirflowCell) takeover.Summary { return c.Adopted }},
		{"Airflow: unsent queued again", func(c AirflowCell) takeover.Summary { return c.Again }},
	} {
		b := band{title: question.title}
		for _, c := range r.airflowCells() {
			b.strips = append(b.strips, stripOf(c.System, question.of(c)))
		}
		if len(b.strips) > 0 {
			out = append(out, b)
		}
	}
	return out
}

func (r Run) mark() mark {
	switch {
	case r.New == 0:
		return mark{r.Silence, ring}
	case r.Stale > 0:
		return mark{r.Gap, cross}
	}
	return mark{r.Gap, dot}
}

func stripOf(system string, s takeover.Summary) strip {
	out := strip{label: system}
	for _, span := range s.All {
		kind := dot
		if span.Over {
			kind = ring
		}
		out.marks = append(out.marks, mark{span.Seconds, kind})
	}
	if s.N > 0 && !s.P50.Over {
		out.median = s.P50.Seconds
	}
	return out
}

func (s strip) draw(out *strings.Builder, y float64) {
	colour, ok := colours[s.label]
	if !ok {
		colour = "#444"
	}
	fmt.Fprintf(out, `<text x="%.0f" y="%.1f" text-anchor="end" fill="%s">%s</text>`+"\n", plotLeft-10, y+4, colour, html.EscapeString(s.label))
	// Dots first, so that no cross hides behind them.
	slices.SortStableFunc(s.marks, func(a, b mark) int { return a.kind%ring - b.kind%ring })
	for _, m := range s.marks {
		x := axis(m.at)
		switch m.kind {
		case ring:
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="none" stroke="%s"/>`+"\n", x, y, colour)
		case cross:
			fmt.Fprintf(out, `<path d="M%.1f %.1fl7 7m0 -7l-7 7" stroke="#c00" fill="none"/>`+"\n", x-3.5, y-3.5)
		default:
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s" fill-opacity="0.45"/>`+"\n", x, y, colour)
		}
	}
	if s.median > 0 {
		fmt.Fprintf(out, `<line x1="%[1]f" x2="%[1]f" y1="%[2]f" y2="%[3]f" stroke="%[4]s" stroke-width="2"/>`+"\n",
			axis(s.median), y-6, y+6, colour)
	}
}
