package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plot: one band per fault, in it one line per system; a dot per run, a bar at the median, time on a logarithmic
// axis. A cross is a run with stale rows: its gap is no achievement. A ring is a run in which nobody took over; it lies at
// the longest time without any row.
const (
	plotLeft, plotWidth, plotRight = 230.0, 620.0, 40.0
	lineHeight, bandGap, plotTop   = 16.0, 14.0, 58.0
	shortest, longest              = 0.001, 100.0 // seconds
)

var colours = map[string]string{"duoflow": "#1b6e3c", "etcd": "#1f5fa8", "keepalived": "#b25c00", "advisory": "#7a3e9d"}

// axis is where a time in seconds lies; what is out of range lies at the edge.
func axis(v float64) float64 {
	v = min(max(v, shortest), longest)
	return plotLeft + plotWidth*(math.Log10(v)-math.Log10(shortest))/(math.Log10(longest)-math.Log10(shortest))
}

func plot(r *Report) string {
	var body strings.Builder
	y, last := plotTop, ""
	for _, c := range r.cells() {
		if c.Fault != last {
			y += bandGap
			fmt.Fprintf(&body, `<text x="8" y="%.0f" font-weight="bold">%s</text>`+"\n", y+4, html.EscapeString(c.Fault))
			last = c.Fault
		}
		r.plotLine(&body, c, y)
		y += lineHeight
	}
	height, width := y+bandGap, plotLeft+plotWidth+plotRight
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="11">`+"\n",
		width, height)
	fmt.Fprintf(&out, `<rect width="%.0f" height="%.0f" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&out, `<text x="8" y="16" font-size="13">Time without an effective writer, by fault (n up to %d, load average %s)</text>`+"\n",
		r.most(), r.loads())
	fmt.Fprintln(&out, `<text x="8" y="32" fill="#555">dot: a run; bar: median; red cross: the old owner committed after the new one; ring: nobody took over, longest time without a row</text>`)
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
	return n
}

func (r *Report) plotLine(out *strings.Builder, c Cell, y float64) {
	colour, ok := colours[c.System]
	if !ok {
		colour = "#444"
	}
	fmt.Fprintf(out, `<text x="%.0f" y="%.1f" text-anchor="end" fill="%s">%s</text>`+"\n", plotLeft-10, y+4, colour, html.EscapeString(c.System))
	for _, run := range r.Runs {
		if run.Fault != c.Fault || run.System != c.System {
			continue
		}
		x := axis(run.Gap)
		switch {
		case run.New == 0:
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="none" stroke="%s"/>`+"\n", axis(run.Silence), y, colour)
		case run.Stale > 0:
			fmt.Fprintf(out, `<path d="M%.1f %.1fl7 7m0 -7l-7 7" stroke="#c00" fill="none"/>`+"\n", x-3.5, y-3.5)
		default:
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s" fill-opacity="0.45"/>`+"\n", x, y, colour)
		}
	}
	if c.N > c.None {
		fmt.Fprintf(out, `<line x1="%[1]f" x2="%[1]f" y1="%[2]f" y2="%[3]f" stroke="%[4]s" stroke-width="2"/>`+"\n",
			axis(c.Gap.P50), y-6, y+6, colour)
	}
}
