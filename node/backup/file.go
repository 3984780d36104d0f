package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/duoflow/duoflow/node/lease"
)

// format is the first word of every file; a program that meets another one refuses it.
const format = "duoflow-backup/1"

// MaxBytes bounds a file: a state travels between nodes in one message of that size at most.
const MaxBytes = 32 << 20

// Picture is what the cluster had agreed on, and where that is from.
type Picture struct {
	Cluster string `json:"cluster"`
	// Life is that of the cluster, as raftstore writes it.
	Life string `json:"life"`
	// Node is where it was taken, Version the program that ran there.
	Node    string `json:"node"`
	Version string `json:"version"`
	// Index and Term are of raft's log; the state is at least that new.
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	// At is that node's wall clock in Unix milliseconds, for people.
	At int64 `json:"at"`
	// Local: no majority was asked, so something may have been agreed on that is not in it.
	Local bool `json:"local"`
	// Begins is the life that begins with exactly this state, and that every node made from the file is of; "" = it is for keeping.
	Begins string `json:"begins"`
	// Members are the nodes of the life that begins, in order; none otherwise.
	Members []string `json:"members"`
	// State is as package lease encodes it.
	State []byte `json:"state"`
}

// sealed is the file: Sum is the SHA-256 of the bytes of Picture.
type sealed struct {
	Format  string          `json:"format"`
	Sum     string          `json:"sum"`
	Picture json.RawMessage `json:"picture"`
}

// Encode makes the file.
func (p Picture) Encode() ([]byte, error) {
	inner, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode backup: %w", err)
	}
	text, err := json.Marshal(sealed{Format: format, Sum: sum(inner), Picture: inner})
	if err != nil {
		return nil, fmt.Errorf("encode backup: %w", err)
	}
	return append(text, '\n'), nil
}

// ErrDamaged is the root of all complaints about a file that is not what was written.
var ErrDamaged = errors.New("the file is damaged, or no backup of duoflow")

// ErrFormat refuses a file of another version.
var ErrFormat = errors.New("its format is not known to this version")

// Decode reads a file and checks all there is to check: its sum, its form, and that the state is one that a cluster can be in.
func Decode(file []byte) (Picture, lease.State, error) {
	var s sealed
	if err := strict(file, &s); err != nil {
		return Picture{}, lease.State{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if s.Format != format {
		return Picture{}, lease.State{}, fmt.Errorf("%w, which reads %s: %.40q", ErrFormat, format, s.Format)
	}
	if got := sum(s.Picture); got != s.Sum {
		return Picture{}, lease.State{}, fmt.Errorf("%w: its sum is %s, it says %.64s", ErrDamaged, got, s.Sum)
	}
	var p Picture
	if err := strict(s.Picture, &p); err != nil {
		return Picture{}, lease.State{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	state, err := lease.DecodeSnapshot(p.State)
	if err != nil {
		return Picture{}, lease.State{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return p, state, nil
}

// Sum names a picture: two that are the same have the same one.
func (p Picture) Sum() (string, error) {
	inner, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode backup: %w", err)
	}
	return sum(inner), nil
}

func sum(text []byte) string {
	all := sha256.Sum256(text)
	return hex.EncodeToString(all[:])
}

func strict(text []byte, into any) error {
	if len(text) > MaxBytes {
		return fmt.Errorf("%d bytes are more than %d", len(text), MaxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if rest := bytes.TrimSpace(text[d.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("%d bytes follow", len(rest))
	}
	return nil
}
