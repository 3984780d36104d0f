package pg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Copy stops the server, copies its data directory to a folder beside it, as a backup without the log of changes would hold it, and starts
// the server again.
func (s *Server) Copy(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	if err := s.copyTree(s.data, filepath.Join(s.dir, name)); err != nil {
		return fmt.Errorf("copy data: %w", err)
	}
	return s.start(ctx)
}

// PutBack stops the server, puts a Copy in the place of its data directory, and starts it on a port where no client looks for it.
func (s *Server) PutBack(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(s.data), s.copyTree(filepath.Join(s.dir, name), s.data)); err != nil {
		return fmt.Errorf("put data back: %w", err)
	}
	s.port = 0
	return s.startAnywhere(ctx)
}

// RestartAt is Restart on another port.
func (s *Server) RestartAt(ctx context.Context, port int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.shutdown(ctx); err != nil {
		return err
	}
	s.port = port
	return s.start(ctx)
}

func (s *Server) copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, name)
		if entry.IsDir() {
			return errors.Join(os.MkdirAll(at, 0o700), s.account.own(at))
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return errors.Join(os.WriteFile(at, content, 0o600), s.account.own(at))
	})
}
