package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// The sidecar is a small file beside the bbolt file. It holds what must never be forgotten a second
// time: term and vote, written before the transaction that changes them. Two slots are written in
// turn, so a write that is cut off spoils the older mark only. A slot is a line of text: the CRC32C of
// the rest, and the mark as JSON.
const (
	sidecarFile    = "raft.vote"
	sidecarVersion = 1
	slotBytes      = 8192
	doubtMost      = 512 // bytes of a reason that are kept
)

// mark is what a slot says.
type mark struct {
	Version int    `json:"version"`
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	Seq     uint64 `json:"seq"` // counts the writes; the higher one is the newer
	Term    uint64 `json:"term"`
	Vote    uint64 `json:"vote"`
	Last    uint64 `json:"last"` // index at which the log ends with transaction Tx
	Tx      uint64 `json:"tx"`   // bbolt's newest transaction when this was written
	// Doubt is why the node must not vote, until it has caught up: that outlasts a restart.
	Doubt string `json:"doubt,omitempty"`
	// Founded is replica.Config.Founded: it tells an empty log that is as it should be from a new storage.
	Founded bool `json:"founded,omitempty"`
}

// errSidecar is the root of all complaints about the content of a sidecar.
var errSidecar = errors.New("unreadable")

// sidecar is the open file. It belongs to who holds the lock on the bbolt file.
type sidecar struct {
	path  string
	file  *os.File // nil = to be made with the next write, in place of what is there
	found mark     // the newest mark
}

// openSidecar reads the newest mark. os.ErrNotExist: there is no file. errSidecar: there is none that
// can be read. The sidecar can be written in either case.
func openSidecar(dir string) (*sidecar, error) {
	s := &sidecar{path: filepath.Join(dir, sidecarFile)}
	file, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return s, fmt.Errorf("open %s: %w", s.path, err)
	}
	text := make([]byte, 2*slotBytes)
	if n, err := io.ReadFull(file, text); err != nil {
		return s, errors.Join(fmt.Errorf("%w %s: %d bytes: %w", errSidecar, s.path, n, err), file.Close())
	}
	problems := []error{nil, nil}
	for i := range problems {
		var m mark
		if m, problems[i] = decodeMark(text[i*slotBytes : (i+1)*slotBytes]); problems[i] == nil && m.Seq >= s.found.Seq {
			s.found = m
		}
	}
	if s.found.Version == 0 {
		return s, errors.Join(fmt.Errorf("%w %s: %w", errSidecar, s.path, errors.Join(problems...)), file.Close())
	}
	s.file = file
	return s, nil
}

// write makes a mark durable.
func (s *sidecar) write(m mark) error {
	m.Version, m.Seq = sidecarVersion, s.found.Seq+1
	slot, err := encodeMark(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", s.path, err)
	}
	if s.file == nil {
		err = s.create(slot)
	} else {
		err = writeSlot(s.file, slot, int64(m.Seq%2))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", s.path, err)
	}
	s.found = m
	return nil
}

// create makes the file, both slots alike, under another name, and moves it into place.
func (s *sidecar) create(slot []byte) error {
	draft := s.path + ".new"
	file, err := os.OpenFile(draft, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = errors.Join(writeSlot(file, slot, 0), writeSlot(file, slot, 1))
	if err == nil {
		err = os.Rename(draft, s.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(s.path))
	}
	if err != nil {
		_ = os.Remove(draft) // unless it has been moved
		return errors.Join(err, file.Close())
	}
	s.file = file
	return nil
}

// writeSlot writes one slot and waits until it is on disk. The file's size does not change after the
// first time, so that its data are all there is to sync.
func writeSlot(file *os.File, slot []byte, at int64) error {
	if _, err := file.WriteAt(slot, at*slotBytes); err != nil {
		return err
	}
	for {
		err := syscall.Fdatasync(int(file.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("fdatasync: %w", err)
		}
	}
}

// retire has the next write replace the whole file: it is of no use but as a witness until then.
func (s *sidecar) retire() error {
	err := s.close()
	s.file = nil
	return err
}

// close releases the file.
func (s *sidecar) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// encodeMark makes a slot.
func encodeMark(m mark) ([]byte, error) {
	if len(m.Doubt) > doubtMost {
		m.Doubt = m.Doubt[:doubtMost]
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, crcTable), text)
	if len(line) > slotBytes {
		return nil, fmt.Errorf("%d bytes are more than a slot's %d", len(line), slotBytes)
	}
	return append(line, make([]byte, slotBytes-len(line))...), nil
}

// decodeMark reads a slot.
func decodeMark(slot []byte) (mark, error) {
	line, _, ended := bytes.Cut(slot, []byte("\n"))
	sum, text, cut := bytes.Cut(line, []byte(" "))
	if !ended || !cut {
		return mark{}, errors.New("no mark")
	}
	if want := fmt.Sprintf("%08x", crc32.Checksum(text, crcTable)); string(sum) != want {
		return mark{}, fmt.Errorf("crc32c %.8q, want %s", sum, want)
	}
	var m mark
	if err := json.Unmarshal(text, &m); err != nil {
		return mark{}, fmt.Errorf("decode mark: %w", err)
	}
	if m.Version != sidecarVersion {
		return mark{}, fmt.Errorf("version %d, want %d", m.Version, sidecarVersion)
	}
	return m, nil
}
