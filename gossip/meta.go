package gossip

import (
	"encoding/json"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// Meta is what a node says about itself. It travels as JSON with one-letter keys, at most 512 bytes (memberlist
// MetaMaxSize). Unknown keys are ignored, so that two versions of duoflow understand each other during an upgrade.
type Meta struct {
	Version string `json:"v,omitempty"` // of duoflow, as `duoflowd version` prints it
	Role    string `json:"r,omitempty"` // "scheduler" or "witness"; other words from a newer version are shown as they are
	Peer    string `json:"p,omitempty"` // host:port of the raft peer listener
	Admin   string `json:"a,omitempty"` // host:port of the gRPC admin listener
	HTTP    string `json:"h,omitempty"` // host:port of the HTTP listener
}

func (m Meta) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode meta: %w", err)
	}
	if len(text) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("encode meta: %d bytes, at most %d", len(text), memberlist.MetaMaxSize)
	}
	return text, nil
}

// decodeMeta reads what another node said about itself. It may be anything the holder of a key can send.
func decodeMeta(text []byte) (Meta, error) {
	if len(text) > memberlist.MetaMaxSize {
		return Meta{}, fmt.Errorf("decode meta: %d bytes, at most %d", len(text), memberlist.MetaMaxSize)
	}
	var m Meta
	if err := json.Unmarshal(text, &m); err != nil {
		return Meta{}, fmt.Errorf("decode meta: %w", err)
	}
	return m, nil
}
