package main

import (
	"encoding/json"
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
	before := lastRun(path)
	say := func() {
		p := m.Snapshot()
		statusline.Put(path, progressLine(p), progressNumbers(p)...)
		putDetail(path, detail{Running: &p, Last: before})
	}
	say()
	stop := every(tellEvery, say)
	return func(r etl.Report, err error) {
		stop()
		statusline.Put(path, endLine(r, err), endNumbers(r, err)...)
		putDetail(path, detail{Last: endedRun(r, err, time.Now())})
	}
}

// detail is what duoctl etl shows: the run that is on, and the last one that has ended under this epoch.
type detail struct {
	Running *etl.Progress `json:"running"`
	Last    *runDetail    `json:"last"`
}

// runDetail is what a run came to.
type runDetail struct {
	Ended     time.Time     `json:"ended"`
	Error     string        `json:"error"`
	Took      time.Duration `json:"took"` // ns
	Synthetic bool          `json:"synthetic"`
	Chunks    []chunkDetail `json:"chunks"`
}

// chunkDetail is what became of a chunk in it; see etl.ChunkReport.
type chunkDetail struct {
	Chunk       string `json:"chunk"`
	State       string `json:"state"`
	Rows        int64  `json:"rows"`
	Strikes     int64  `json:"strikes"`
	Quarantined int64  `json:"quarantined"`
	Error       string `json:"error"`
}

func endedRun(r etl.Report, err error, at time.Time) *runDetail {
	run := &runDetail{Ended: at.UTC(), Took: r.Took, Synthetic: r.Synthetic, Chunks: []chunkDetail{}}
	if err != nil {
		run.Error = err.Error()
	}
	for _, c := range r.Chunks {
		run.Chunks = append(run.Chunks, chunkDetail{string(c.Chunk), c.State, c.Rows, c.Strikes, c.Quarantined, c.Error})
	}
	return run
}

// lastRun is what the run before this one left in the same life; nil when there was none, or it cannot be read.
func lastRun(path string) *runDetail {
	var d detail
	if json.Unmarshal(statusline.Detail(path), &d) != nil {
		return nil
	}
	return d.Last
}

func putDetail(path string, d detail) {
	if text, err := json.Marshal(d); err == nil {
		statusline.PutDetail(path, text)
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
