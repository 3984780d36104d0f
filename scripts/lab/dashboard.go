package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Reader is the login that may read the pipeline's views and nothing else; AddReader makes it.
const Reader = "dashboard"

// AddReader makes Reader, before the pipeline's tables are: what may read is said when they are made.
func (p *Pipeline) AddReader(ctx context.Context) error {
	if err := p.store.AddLogin(ctx, Reader); err != nil {
		return err
	}
	p.Options.Readers = []string{Reader}
	return p.Configure()
}

// StartDashboard starts the dashboard over the pipeline's views, as Reader, and returns its URL, which this machine alone reaches. It
// needs scripts/setup dash.
func (p *Pipeline) StartDashboard(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	root, err := Root()
	if err != nil {
		return "", err
	}
	python := filepath.Join(root, ".cache", "dash", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		return "", fmt.Errorf("find the dashboard's Python: %w; run scripts/setup dash", err)
	}
	app, err := p.lab.Hub().Start(Spec{
		Name: "dashboard", Dir: p.dir, Env: append(cleanEnv(), "DATABASE_URL="+p.store.DSN(Reader, p.store.passwords[Reader], p.Options.Database)),
		Args: []string{python, filepath.Join(root, "etl", "dash", "app.py"), "--listen", "127.0.0.1:0", "--schema", p.views(), "-o", "json"},
	})
	if err != nil {
		return "", err
	}
	var said struct{ URL string }
	err = app.await(ctx, "the dashboard", func(context.Context) error {
		text, err := os.ReadFile(app.LogPath())
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			if json.Unmarshal(line, &said) == nil && said.URL != "" {
				return nil
			}
		}
		return errors.New("it has not said where it is")
	})
	return said.URL, err
}

// views is the schema of the pipeline's views.
func (p *Pipeline) views() string { return p.Options.Name + "_views" }
