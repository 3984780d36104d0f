package airflowctl

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

const (
	// detailFile is beside lineFile, under its name with this behind it.
	detailFile = lineFile + ".json"
	// detailBytes is the most that is passed on of it.
	detailBytes = 256 << 10
)

// Detail is what a job says of itself at length, in JSON of its own making, for people who ask: no decision reads it.
type Detail struct {
	Epoch uint64 // of the life that runs; 0 = none
	// JSON is one valid value; empty: it says nothing.
	JSON []byte
	// At is when it was written, by this host's clock.
	At time.Time
}

// Detail reads what the present life says at length.
func (j *Job) Detail() (Detail, error) {
	j.mu.Lock()
	l := j.current
	j.mu.Unlock()
	if l == nil {
		return Detail{}, nil
	}
	d := Detail{Epoch: l.epoch.Load()}
	uid, _, err := j.cfg.owner()
	if err != nil {
		return d, err
	}
	text, read, err := readOwn(filepath.Join(l.dir, detailFile), uid, detailBytes)
	if err != nil || len(text) == 0 {
		return d, err
	}
	if len(text) == detailBytes || !json.Valid(text) {
		return d, errors.New("what the job says at length is no JSON, or too long")
	}
	d.JSON, d.At = text, time.Unix(read.mtime.Unix())
	return d, nil
}

// Runs reads the newest runs of the job's schedule from its database.
func (j *Job) Runs(ctx context.Context, limit int) ([]fence.PastRun, error) {
	return j.fencer.Runs(ctx, limit)
}

// Detail is nothing: no life of a shadow runs.
func (*Shadow) Detail() (Detail, error) { return Detail{}, nil }

// Runs are none: a shadow writes nothing.
func (*Shadow) Runs(context.Context, int) ([]fence.PastRun, error) { return nil, nil }
