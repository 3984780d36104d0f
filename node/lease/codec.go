package lease

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// formatV1 is the first byte of every encoded command and snapshot. A node that meets a byte it does not know must
// stop: skipping the entry would make it disagree with the others without anyone noticing.
const formatV1 = 1

// UnknownFormatError is a log entry or snapshot written by a version this program does not understand.
type UnknownFormatError struct {
	// What is "command" or "snapshot".
	What string
	// Format is the leading byte that was found.
	Format byte
}

func (e *UnknownFormatError) Error() string {
	return fmt.Sprintf("decode %s: format %d is not known to this version of duoflowd; upgrade this node", e.What, e.Format)
}

// Encode returns the command as a log entry.
func (c Command) Encode() []byte { return encode(c) }

// DecodeCommand reads a log entry. Fields and formats it does not know are errors, never skipped.
func DecodeCommand(entry []byte) (Command, error) {
	var c Command
	if err := decode("command", entry, &c); err != nil {
		return Command{}, err
	}
	if n := c.set(); n != 1 {
		return Command{}, fmt.Errorf("decode command: %d kinds are set, want exactly 1", n)
	}
	return c, nil
}

func (c Command) set() int {
	n := 0
	for _, set := range []bool{
		c.Configure != nil, c.Grant != nil, c.Release != nil, c.Observe != nil, c.Ask != nil, c.Report != nil,
	} {
		if set {
			n++
		}
	}
	return n
}

// Snapshot returns the whole state, encoded.
func (s *State) Snapshot() []byte { return encode(s) }

// DecodeSnapshot reads what Snapshot wrote. It refuses a state that no sequence of commands leads to.
func DecodeSnapshot(data []byte) (State, error) {
	var s State
	if err := decode("snapshot", data, &s); err != nil {
		return State{}, err
	}
	if !slices.IsSortedFunc(s.Nodes, func(a, b Node) int { return cmp(a.ID, b.ID) }) ||
		!slices.IsSortedFunc(s.Jobs, func(a, b Job) int { return cmp(a.Name, b.Name) }) {
		return State{}, fmt.Errorf("decode snapshot: not sorted by name")
	}
	for _, j := range s.Jobs {
		if broken := phaseMatchesEpoch(j) + s.witnessNeverHolds(j); broken != "" {
			return State{}, fmt.Errorf("decode snapshot: job %s: %s", j.Name, broken)
		}
	}
	return s, nil
}

func encode(v any) []byte {
	body, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("lease: encode %T: %v", v, err)) // plain structs of strings and numbers always encode
	}
	return append([]byte{formatV1}, body...)
}

func decode(what string, data []byte, into any) error {
	if len(data) == 0 {
		return fmt.Errorf("decode %s: empty", what)
	}
	if data[0] != formatV1 {
		return &UnknownFormatError{What: what, Format: data[0]}
	}
	d := json.NewDecoder(bytes.NewReader(data[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("decode %s: %w", what, err)
	}
	if rest := bytes.TrimSpace(data[1+d.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("decode %s: %d trailing bytes", what, len(rest))
	}
	return nil
}
