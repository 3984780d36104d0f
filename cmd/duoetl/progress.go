package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/duoflow/duoflow/etl"
)

const (
	drawEvery = 200 * time.Millisecond // on a terminal
	lineEvery = time.Second            // otherwise
)

// follow shows the progress of a run until the function that it hands back is called, which waits for the last look.
func (a *app) follow(m *etl.Meter) (stop func()) {
	done := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		every, show := lineEvery, a.line
		if a.terminal {
			drawn := 0
			every, show = drawEvery, func(p etl.Progress) { drawn = draw(a.err, p, drawn) }
		}
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				show(m.Snapshot())
			case <-done:
				show(m.Snapshot())
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

// draw writes over what it drew before, and returns how many lines there are now.
func draw(w io.Writer, p etl.Progress, before int) int {
	if p.Chunks == 0 {
		return 0
	}
	if before > 0 {
		fmt.Fprintf(w, "\x1b[%dA", before)
	}
	head := fmt.Sprintf("%d of %d chunks", p.Done+p.Failed+p.Unchanged, p.Chunks)
	if p.Failed > 0 {
		head += fmt.Sprintf(", %d failed", p.Failed)
	}
	if p.Unchanged > 0 {
		head += fmt.Sprintf(", %d up to date", p.Unchanged)
	}
	fmt.Fprintf(w, "\x1b[2K%s  %s, %s left\n", head, duration(p.Elapsed), duration(p.ETA))
	for _, s := range p.Steps {
		unit, n := "rows", s.Rows
		if n == 0 {
			unit, n = "bytes", s.Bytes
		}
		fmt.Fprintf(w, "\x1b[2K  %-9s %3d  %-8s %9s %s, %9s/s\n", s.Step, s.Done, orDash(string(s.Chunk)), amount(float64(n)), unit, amount(s.Rate))
	}
	return len(p.Steps) + 1
}
