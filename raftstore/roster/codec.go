package roster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// format is the first byte of an encoded roster. A node that meets another one must stop: to go on with a wrong idea of who votes
// is to disagree with the others about what a majority is.
const format = 1

// Encode returns the roster as it is in the log.
func (r Roster) Encode() []byte {
	body, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("roster: encode: %v", err)) // plain structs of strings and numbers always encode
	}
	return append([]byte{format}, body...)
}

// Decode reads what Encode wrote, and nothing else.
func Decode(data []byte) (Roster, error) {
	if len(data) == 0 || data[0] != format {
		return Roster{}, fmt.Errorf("decode members: a format that this version of duoflowd does not know; upgrade this node")
	}
	var r Roster
	d := json.NewDecoder(bytes.NewReader(data[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Roster{}, fmt.Errorf("decode members: %w", err)
	}
	if err := r.validate(); err != nil {
		return Roster{}, fmt.Errorf("decode members: %w", err)
	}
	if !bytes.Equal(r.Encode(), data) {
		return Roster{}, fmt.Errorf("decode members: not in canonical form")
	}
	return r, nil
}

// mark is what a snapshot with a roster begins with. Snapshots of before there were rosters begin with the state machine's own
// format, which is no such text.
const mark = "duoflow roster\n"

// Wrap puts a roster before the state machine's snapshot.
func (r Roster) Wrap(snapshot []byte) []byte {
	encoded := r.Encode()
	out := binary.BigEndian.AppendUint32([]byte(mark), uint32(len(encoded)))
	return append(append(out, encoded...), snapshot...)
}

// Unwrap takes the roster off a snapshot. ok is false when there is none: the members are still those of the configuration.
func Unwrap(data []byte) (r Roster, snapshot []byte, ok bool, err error) {
	rest, found := bytes.CutPrefix(data, []byte(mark))
	if !found {
		return Roster{}, data, false, nil
	}
	if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest)) > uint64(len(rest)-4) {
		return Roster{}, nil, false, fmt.Errorf("decode snapshot: its members are cut short")
	}
	end := 4 + binary.BigEndian.Uint32(rest)
	r, err = Decode(rest[4:end])
	return r, rest[end:], err == nil, err
}
