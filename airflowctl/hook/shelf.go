package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// shelf keeps events on disk, a file each, in the order of their names. One goroutine puts, any may remove.
type shelf struct {
	dir  string
	last uint64
}

const suffix = ".json"

// openShelf makes the folder when it is missing, and returns what is in there, the oldest first. What cannot be read was never
// finished: a daemon that ended while it wrote.
func openShelf(dir string) (*shelf, []event, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	s := &shelf{dir: dir}
	var left []event
	for _, file := range files {
		path := filepath.Join(dir, file.Name())
		e, err := read(path)
		if err != nil || !strings.HasSuffix(file.Name(), suffix) {
			if err := os.Remove(path); err != nil {
				return nil, nil, err
			}
			continue
		}
		left = append(left, e)
		s.last = max(s.last, e.Seq)
	}
	slices.SortFunc(left, func(a, b event) int { return int(int64(a.Seq) - int64(b.Seq)) })
	return s, left, nil
}

func read(path string) (event, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return event{}, err
	}
	var e event
	if err := json.Unmarshal(text, &e); err != nil {
		return event{}, err
	}
	if e.Seq == 0 || !slices.Contains(Names(), e.Hook) {
		return event{}, errors.New("no event of ours")
	}
	return e, nil
}

// put writes an event down, durably, and returns its place.
func (s *shelf) put(e event) (uint64, error) {
	s.last++
	e.Seq = s.last
	text, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	path := s.path(e.Seq)
	if err := errors.Join(durable(path+".new", text), os.Rename(path+".new", path), syncDir(s.dir)); err != nil {
		return 0, fmt.Errorf("write %s: %w", path, err)
	}
	return e.Seq, nil
}

func (s *shelf) remove(seq uint64) error {
	if seq == 0 {
		return nil
	}
	if err := os.Remove(s.path(seq)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *shelf) path(seq uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d%s", seq, suffix))
}

func durable(path string, text []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
