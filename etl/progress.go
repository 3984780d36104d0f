package etl

import (
	"sync"
	"time"

	"github.com/duoflow/duoflow/etl/tile"
)

// The steps of a chunk, in order.
const (
	StepExtract   = "extract"
	StepCopy      = "copy"
	StepIngest    = "ingest"
	StepAggregate = "aggregate"
	StepLoad      = "load"
	StepPublish   = "publish"
)

// Steps are all of them, in order.
func Steps() []string {
	return []string{StepExtract, StepCopy, StepIngest, StepAggregate, StepLoad, StepPublish}
}

// Progress is how far a run is.
type Progress struct {
	Elapsed   time.Duration  `json:"elapsed"` // ns
	Chunks    int            `json:"chunks"`  // to do, and done, failed or unchanged already
	Done      int            `json:"done"`
	Failed    int            `json:"failed"`
	Unchanged int            `json:"unchanged"`
	ETA       time.Duration  `json:"eta"` // ns; 0 = unknown
	Steps     []StepProgress `json:"steps"`
}

// StepProgress is how far one step is.
type StepProgress struct {
	Step  string        `json:"step"`
	Chunk tile.Chunk    `json:"chunk,omitempty"` // at work on it; "" = none
	Done  int           `json:"done"`            // chunks
	Bytes int64         `json:"bytes"`           // of all chunks
	Rows  int64         `json:"rows"`
	Busy  time.Duration `json:"busy"`           // ns, the sum over chunks
	Rate  float64       `json:"rate"`           // rows a second while busy, or bytes where there are no rows; 0 = unknown
	Note  string        `json:"note,omitempty"` // what an engine that takes long says of itself
}

// Meter counts while a run is on. The zero value is ready; safe for use by several goroutines.
type Meter struct {
	mu    sync.Mutex
	began time.Time
	now   Progress
	since map[string]time.Time // steps at work
}

func (m *Meter) start(chunks int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.began = time.Now()
	m.since = map[string]time.Time{}
	m.now = Progress{Chunks: chunks}
	for _, step := range Steps() {
		m.now.Steps = append(m.now.Steps, StepProgress{Step: step})
	}
}

func (m *Meter) step(name string) *StepProgress {
	for i := range m.now.Steps {
		if m.now.Steps[i].Step == name {
			return &m.now.Steps[i]
		}
	}
	return &StepProgress{}
}

// enter and leave bracket a step of a chunk. One that was not entered took no time.
func (m *Meter) enter(step string, chunk tile.Chunk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.since[step] = time.Now()
	m.step(step).Chunk = chunk
}

func (m *Meter) leave(step string, done bool) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	var took time.Duration
	if since, at := m.since[step]; at {
		took = time.Since(since)
	}
	delete(m.since, step)
	s := m.step(step)
	s.Chunk, s.Note = "", ""
	s.Busy += took
	if done {
		s.Done++
	}
	return took
}

func (m *Meter) moved(step string, bytes, rows int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.step(step)
	s.Bytes += bytes
	s.Rows += rows
}

// note takes what is said of the chunk at work.
func (m *Meter) note(step, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step(step).Note = text
}

func (m *Meter) finished(state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch state {
	case ChunkDone:
		m.now.Done++
	case ChunkFailed:
		m.now.Failed++
	case ChunkUnchanged:
		m.now.Unchanged++
	}
}

// Snapshot is how far the run is now; the zero value before one has begun.
func (m *Meter) Snapshot() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.began.IsZero() {
		return Progress{}
	}
	p := m.now
	p.Elapsed = time.Since(m.began)
	p.Steps = append([]StepProgress(nil), p.Steps...)
	for i := range p.Steps {
		s := &p.Steps[i]
		if since, at := m.since[s.Step]; at {
			s.Busy += time.Since(since)
		}
		amount := s.Rows
		if amount == 0 {
			amount = s.Bytes
		}
		if s.Busy > 0 {
			s.Rate = float64(amount) / s.Busy.Seconds()
		}
	}
	// Unchanged chunks took no time that says anything about the others.
	if worked := p.Done + p.Failed; worked > 0 {
		p.ETA = p.Elapsed / time.Duration(worked) * time.Duration(p.Chunks-worked-p.Unchanged)
	}
	return p
}
