package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/duoflow/duoflow/node/lease"
)

// Read reads the file at path, as Decode does.
func Read(path string) (Picture, lease.State, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Picture{}, lease.State{}, fmt.Errorf("read backup: %w", err)
	}
	if info.Size() > MaxBytes {
		return Picture{}, lease.State{}, fmt.Errorf("read %s: %w: it is longer than %d bytes", path, ErrDamaged, MaxBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Picture{}, lease.State{}, fmt.Errorf("read backup: %w", err)
	}
	p, state, err := Decode(text)
	if err != nil {
		return p, state, fmt.Errorf("read %s: %w", path, err)
	}
	return p, state, nil
}

// Write makes the file at path, whole or not at all, readable for its owner only. One that is there is replaced, or refused with fs.ErrExist.
func Write(path string, p Picture, replace bool) error {
	text, err := p.Encode()
	if err != nil {
		return err
	}
	if err := write(path, text, replace); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

func write(path string, text []byte, replace bool) error {
	draft, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(draft.Name()) // it has another name by then, or is of no use
	_, err = draft.Write(text)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return err
	}
	put := os.Link // a rename would replace one that came meanwhile
	if replace {
		put = os.Rename
	}
	if err := put(draft.Name(), path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	} else if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
