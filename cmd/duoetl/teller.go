package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/cmd/statusline"
	"github.com/duoflow/duoflow/etl"
)

const (
	// statusVariable names the file whose first line duoflowd shows to operators; without it nobody wants to know.
	statusVariable = "DUOFLOW_STATUS_FILE"
	tellEvery      = time.Second
)

// tell says in the status file how far a run is, until the function that it hands back is called with how it ended.
func (a *app) tell(m *etl.Meter) (ended func(etl.Report, error)) {
	path := a.env(statusVariable)
	if path == "" {
		return func(etl.Report, error) {}
	}
	say := func() {
		p := m.Snapshot()
		statusline.Put(path, progressLine(p), progressNumbers(p)...)
	}
	say()
	stop := every(tellEvery, say)
	return func(r etl.Report, err error) {
		stop()
		statusline.Put(path, endLine(r, err), endNumbers(r, err)...)
	}
}

// counts are the numbers of a run: chunks by what became of them, and 1 when it ended with an error.
func counts(done, unchanged, failed, all int, bad bool) []statusline.Number {
	ended := int64(0)
	if bad {
		ended = 1
	}
	return []statusline.Number{
		{Name: "chunks_done", Value: int64(done)}, {Name: "chunks_unchanged", Value: int64(unchanged)}, {Name: "chunks_failed", Value: int64(failed)},
		{Name: "chunks_left", Value: int64(all - done - unchanged - failed)}, {Name: "run_failed", Value: ended},
	}
}

func progressNumbers(p etl.Progress) []statusline.Number {
	return counts(p.Done, p.Unchanged, p.Failed, p.Chunks, false)
}

func endNumbers(r etl.Report, err error) []statusline.Number {
	return counts(r.Done, r.Unchanged, r.Failed, len(r.Chunks), err != nil)
}

// progressLine says what is at work, the oldest chunk first, and how much is done.
func progressLine(p etl.Progress) string {
	if p.Chunks == 0 {
		return "making the plan"
	}
	finished := p.Done + p.Failed + p.Unchanged
	facts := []string{fmt.Sprintf("%d of %s", finished, chunks(p.Chunks)), fmt.Sprintf("%d %%", 100*finished/p.Chunks)}
	if p.Failed > 0 {
		facts = append(facts, fmt.Sprintf("%d failed", p.Failed))
	}
	var work []string
	for _, s := range p.Steps {
		if s.Chunk != "" {
			work = append([]string{s.Step + " " + string(s.Chunk)}, work...)
		}
		if s.Step == etl.StepIngest && s.Rows > 0 {
			facts = append(facts, amount(float64(s.Rows))+" rows read")
		}
	}
	if p.ETA > 0 {
		facts = append(facts, "about "+left(p.ETA)+" left")
	}
	if len(work) == 0 {
		return strings.Join(facts, ", ")
	}
	return strings.Join(work, ", ") + " (" + strings.Join(facts, ", ") + ")"
}

func left(d time.Duration) string {
	if d < 2*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return grid.Took(d)
}

// endLine says what a run came to.
func endLine(r etl.Report, err error) string {
	var rows int64
	for _, c := range r.Chunks {
		if c.State == etl.ChunkDone {
			rows += c.Rows
		}
	}
	facts := []string{chunks(r.Done) + " done"}
	switch {
	case len(r.Chunks) == 0:
		facts = []string{"nothing done"}
	case r.Unchanged == len(r.Chunks):
		facts = []string{"nothing new, " + chunks(r.Unchanged) + " up to date"}
	case r.Unchanged > 0:
		facts = append(facts, fmt.Sprintf("%d up to date", r.Unchanged))
	}
	if r.Failed > 0 {
		facts = append(facts, fmt.Sprintf("%d failed", r.Failed))
	}
	if rows > 0 {
		facts = append(facts, amount(float64(rows))+" rows")
	}
	if r.Took > 0 {
		facts = append(facts, grid.Took(r.Took))
	}
	line := strings.Join(facts, ", ") + badge(r.Synthetic)
	if err != nil {
		line += ": " + err.Error()
	}
	return line
}

// chunks counts them in words.
func chunks(n int) string {
	if n == 1 {
		return "1 chunk"
	}
	return fmt.Sprintf("%d chunks", n)
}
