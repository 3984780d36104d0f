package lease

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
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
	return c, canonical("command", c, entry)
}

func (c Command) set() int {
	n := 0
	for _, set := range []bool{
		c.Configure != nil, c.Grant != nil, c.Release != nil, c.Observe != nil, c.Ask != nil, c.Report != nil, c.Hold != nil, c.Retire != nil,
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
	if err := s.validate(); err != nil {
		return State{}, fmt.Errorf("decode snapshot: %w", err)
	}
	return s, canonical("snapshot", s, data)
}

// validate refuses a state that no sequence of commands leads to.
func (s *State) validate() error {
	for i, n := range s.Nodes {
		if !ValidName(string(n.ID)) || (i > 0 && s.Nodes[i-1].ID >= n.ID) {
			return fmt.Errorf("node %q: bad name, or not in order", n.ID)
		}
	}
	for i, j := range s.Jobs {
		if !ValidName(string(j.Name)) || (i > 0 && s.Jobs[i-1].Name >= j.Name) {
			return fmt.Errorf("job %q: bad name, or not in order", j.Name)
		}
		if broken := phaseMatchesEpoch(j) + s.witnessNeverHolds(j); broken != "" {
			return fmt.Errorf("job %s: %s", j.Name, broken)
		}
		if err := cmp.Or(validHolder(j), validOrders(j)); err != nil {
			return err
		}
	}
	return nil
}

func validHolder(j Job) error {
	switch j.Phase {
	case Vacant:
		return nil
	case Granted, Released:
		return validLife(j.Name, j.Holder, j.Token)
	}
	return fmt.Errorf("job %s: unknown phase %q", j.Name, j.Phase)
}

// validOrders refuses a pause or a plan that the commands would refuse, one that Order does not count, and a move that is asked for
// or planned while a pause has the job stopped.
func validOrders(j Job) error {
	if (j.Plan != nil || j.Pause != nil) && j.Order == 0 {
		return fmt.Errorf("job %s: a plan or pause that no order has made", j.Name)
	}
	if j.Pause.stops() && (j.Move != nil || j.Plan != nil) {
		return fmt.Errorf("job %s: stopped, and to be moved", j.Name)
	}
	if j.Plan != nil {
		if err := cmp.Or(validWait(j.Plan.In), validText(j.Plan.By)); err != nil {
			return fmt.Errorf("job %s: plan: %w", j.Name, err)
		}
	}
	if j.Pause != nil {
		if err := j.Pause.validate(); err != nil {
			return fmt.Errorf("job %s: %w", j.Name, err)
		}
	}
	return nil
}

// canonical refuses what encode would not have written (a key twice, or in another case): there is one way to write a
// value, and anything else was not written by us.
func canonical(what string, v any, data []byte) error {
	if !bytes.Equal(encode(v), data) {
		return fmt.Errorf("decode %s: not in canonical form", what)
	}
	return nil
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
		if strings.HasPrefix(err.Error(), "json: unknown field") { // package json has no type for it
			err = fmt.Errorf("%w: not known to this version of duoflowd; upgrade this node", err)
		}
		return fmt.Errorf("decode %s: %w", what, err)
	}
	if rest := bytes.TrimSpace(data[1+d.InputOffset():]); len(rest) > 0 {
		return fmt.Errorf("decode %s: %d trailing bytes", what, len(rest))
	}
	return nil
}
