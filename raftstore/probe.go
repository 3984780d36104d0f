package raftstore

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A quiet log writes nothing, so it would learn of a full or read-only disk with the next command, and end.
// The probe finds out before.
const (
	probeFile  = "raft.probe"
	probeBytes = 32 << 10         // somewhat more than a commit of bbolt
	probeEvery = 10 * time.Second // a look is an fsync
	probeAgain = time.Second      // after one that failed
	probeSlow  = 10 * time.Second // a look that takes longer is one that failed
)

// probe writes a file into the data directory now and then, and takes it away. Safe for concurrent use.
type probe struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	since  time.Time // of the look under way; zero = none is
	reason string    // of the last look; "" = the file was written
}

func newProbe(dir string, log *slog.Logger) *probe {
	return &probe{path: filepath.Join(dir, probeFile), log: log}
}

// run looks until ctx ends. A look that has begun is waited for.
func (p *probe) run(ctx context.Context) {
	for {
		wait := probeEvery
		if p.unwritable() != "" {
			wait = probeAgain
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p.look()
	}
}

// look writes the file once.
func (p *probe) look() {
	p.mu.Lock()
	p.since = time.Now()
	p.mu.Unlock()
	reason := ""
	err := p.write()
	if err != nil {
		reason = "the data directory takes no writes: " + err.Error()
	}
	p.mu.Lock()
	took, before := time.Since(p.since), p.reason
	p.since, p.reason = time.Time{}, reason
	p.mu.Unlock()
	switch {
	case reason != "" && before == "":
		p.log.Warn("the data directory takes no writes; no job comes to this node for now", "err", err)
	case reason == "" && before != "":
		p.log.Info("the data directory takes writes again", "took", took)
	}
}

// write writes the file, waits until it is on disk, and takes it away. What it holds is no use to anyone; it is drawn,
// as some file systems keep no room for zeros.
func (p *probe) write() error {
	data := make([]byte, probeBytes)
	_, _ = rand.Read(data) // never fails: it ends the program instead
	file, err := os.OpenFile(p.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(writeSlot(file, data, 0), file.Close(), os.Remove(p.path))
}

// unwritable says why the data directory takes no writes; "" = it does.
func (p *probe) unwritable() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.since.IsZero() && time.Since(p.since) >= probeSlow {
		return "the data directory takes no writes: the disk does not answer"
	}
	return p.reason
}

// Unwritable says why the data directory takes no new file; "" = it does. The log itself goes on until it has
// something to write, and ends with that. It is looked at every 10 s, and every second while it is so.
func (s *Store) Unwritable() string { return s.probe.unwritable() }
