package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/etl"
)

const (
	drawEvery = 200 * time.Millisecond // on a terminal
	lineEvery = time.Second            // otherwise
)

// follow shows the progress of a run until the function that it hands back is called, which waits for the last look.
func (a *app) follow(m *etl.Meter) (stop func()) {
	period, show := lineEvery, a.line
	if a.screen != nil {
		period, show = drawEvery, func(p etl.Progress) {
			if p.Chunks > 0 { // else the plan is not made yet
				a.screen.draw(drawing(p))
			}
		}
	}
	look := func() { show(m.Snapshot()) }
	ended := every(period, look)
	return func() {
		ended()
		look()
		if a.screen != nil {
			a.screen.leave()
		}
	}
}

// every calls f once a period, until the function that it hands back is called, which waits for the last call.
func every(period time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		group.Wait()
	}
}

// line is one JSON line.
func (a *app) line(p etl.Progress) {
	if p.Chunks == 0 {
		return // the plan is not made yet
	}
	text, err := json.Marshal(struct {
		Progress etl.Progress `json:"progress"`
	}{p})
	if err == nil {
		fmt.Fprintf(a.err, "%s\n", text)
	}
}

// SGR parameters.
const (
	bold = "1"
	red  = "31"
)

// drawing is a head line and one for each step; those at work are bold, and the head is red once a chunk has failed.
func drawing(p etl.Progress) []line {
	head := line{text: fmt.Sprintf("%d of %d chunks", p.Done+p.Failed+p.Unchanged, p.Chunks)}
	if p.Failed > 0 {
		head.text += fmt.Sprintf(", %d failed", p.Failed)
		head.loud = red
	}
	if p.Unchanged > 0 {
		head.text += fmt.Sprintf(", %d up to date", p.Unchanged)
	}
	head.text += fmt.Sprintf("  %s, %s left", grid.Took(p.Elapsed), grid.Took(p.ETA))
	out := []line{head}
	for _, s := range p.Steps {
		unit, n := "rows", s.Rows
		if n == 0 {
			unit, n = "bytes", s.Bytes
		}
		l := line{text: fmt.Sprintf("  %-9s %3d  %-8s %9s %s, %9s/s", s.Step, s.Done, grid.OrDash(string(s.Chunk)), amount(float64(n)), unit, amount(s.Rate))}
		if s.Note != "" {
			l.text += "  " + s.Note
		}
		if s.Chunk != "" {
			l.loud = bold
		}
		out = append(out, l)
	}
	return out
}
