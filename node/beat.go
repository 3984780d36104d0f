package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// beatEvery is how often a node speaks. Beats travel beside the raft log, never in it: a bbolt commit writes about
// 20 KB, and what a beat says is worthless a second later.
const beatEvery = 50 * time.Millisecond

// beat is everything a node says of itself, to every other node.
type beat struct {
	Node    lease.NodeID `json:"node"`
	Version string       `json:"version"`
	// Fsync is the p99 of the log's commits, in nanoseconds.
	Fsync time.Duration `json:"fsync,omitempty"`
	// Doubt is why its disk is not trusted to vote; empty when it is.
	Doubt string `json:"doubt,omitempty"`
	// Disk is why its disk takes no writes; empty when it does.
	Disk string                           `json:"disk,omitempty"`
	Jobs map[lease.JobName]control.Report `json:"jobs"`
	// Lines is what its jobs say of themselves. For people: nothing that decides may read it.
	Lines map[lease.JobName]line `json:"lines,omitempty"`
	// linesAt is when these lines, with these ages, were first heard, on the hearer's clock.
	linesAt control.Instant
}

// trouble is what is wrong with the node itself, for people.
func (b beat) trouble() string {
	if b.Doubt == "" || b.Disk == "" {
		return b.Doubt + b.Disk
	}
	return b.Doubt + "; " + b.Disk
}

func (b beat) encode() []byte {
	body, err := json.Marshal(b)
	if err != nil {
		panic(fmt.Sprintf("node: encode beat: %v", err)) // plain maps, strings and numbers always encode
	}
	return body
}

// decodeBeat reads a beat. Unknown fields are ignored: unlike the log, beats of a newer version may say more.
func decodeBeat(payload []byte) (beat, error) {
	var b beat
	if err := json.Unmarshal(payload, &b); err != nil {
		return beat{}, fmt.Errorf("decode beat: %w", err)
	}
	if !lease.ValidName(string(b.Node)) {
		return beat{}, fmt.Errorf("decode beat: node name %q", b.Node)
	}
	for job, l := range b.Lines {
		b.Lines[job] = l.clean()
	}
	return b, nil
}

// hearing is who was heard when, on this host's clock.
type hearing struct {
	last  map[lease.NodeID]control.Instant
	beats map[lease.NodeID]beat
}

func newHearing() *hearing {
	return &hearing{last: map[lease.NodeID]control.Instant{}, beats: map[lease.NodeID]beat{}}
}

func (h *hearing) note(b beat, now control.Instant) {
	b.linesAt = now
	if last := h.beats[b.Node]; maps.Equal(last.Lines, b.Lines) {
		b.linesAt = last.linesAt
	}
	h.last[b.Node], h.beats[b.Node] = now, b
}

// forget drops those that are no members any more.
func (h *hearing) forget(now *members) {
	for id := range h.last {
		if now.get(id).ID == "" {
			delete(h.last, id)
			delete(h.beats, id)
		}
	}
}

// late reports whether a node has not been heard for longer than after, unless that has gone on for longer than until.
func (h *hearing) late(now control.Instant, after, until time.Duration) bool {
	for _, at := range h.last {
		if d := now.Since(at); d > after && d <= until {
			return true
		}
	}
	return false
}

// since lists, sorted, the nodes that were heard within d.
func (h *hearing) since(now control.Instant, d time.Duration) []lease.NodeID {
	var ids []lease.NodeID
	for id, at := range h.last {
		if now.Since(at) <= d {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
