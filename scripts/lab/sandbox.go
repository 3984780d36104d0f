package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// SandboxFault is something that goes wrong with calls to the sandbox, as `duosandbox --help` has it.
type SandboxFault struct {
	Server string `json:"server"` // s3, gcs or bigquery
	Call   string `json:"call,omitempty"`
	Name   string `json:"name,omitempty"`     // part of the request's path
	Skip   int    `json:"skip,omitempty"`     // calls that pass before
	Times  int    `json:"times,omitempty"`    // calls that are hit; 0 = all until ClearFaults
	Delay  int64  `json:"delay_ms,omitempty"` // how long the call waits first; a fault that does nothing only counts
	Status int    `json:"status,omitempty"`   // to refuse with
	Reason string `json:"reason,omitempty"`
}

// Hold makes a call wait until whoever made it is gone.
const Hold = int64(time.Hour / time.Millisecond)

// AddFault plans a fault.
func (p *Pipeline) AddFault(ctx context.Context, f SandboxFault) error {
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode fault: %w", err)
	}
	_, err = p.ask(ctx, http.MethodPost, p.faultsURL(), text)
	return err
}

// ClearFaults drops all that is planned. Calls that wait go on waiting.
func (p *Pipeline) ClearFaults(ctx context.Context) error {
	_, err := p.ask(ctx, http.MethodDelete, p.faultsURL(), nil)
	return err
}

// FaultHits says how many calls each planned fault has hit, in the order in which they were planned.
func (p *Pipeline) FaultHits(ctx context.Context) ([]int, error) {
	text, err := p.ask(ctx, http.MethodGet, p.faultsURL(), nil)
	if err != nil {
		return nil, err
	}
	var all []struct{ Hits int }
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("decode faults: %w", err)
	}
	var hits []int
	for _, one := range all {
		hits = append(hits, one.Hits)
	}
	return hits, nil
}

// Put makes an object in Google Cloud Storage, below the pipeline's prefix.
func (p *Pipeline) Put(ctx context.Context, name string, content []byte) error {
	at := fmt.Sprintf("http://%s/upload/storage/v1/b/%s/o?uploadType=media&name=%s", p.cloud.GCS, stagingBucket, url.QueryEscape(p.Options.Name+"/"+name))
	_, err := p.ask(ctx, http.MethodPost, at, content)
	return err
}

func (p *Pipeline) faultsURL() string { return p.cloud.BigQuery + "/sandbox/faults" }

// ask makes one call, past any proxy.
func (p *Pipeline) ask(ctx context.Context, method, at string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, at, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask the sandbox: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask the sandbox: %w", err)
	}
	text, err := io.ReadAll(answer.Body)
	if err := errors.Join(err, answer.Body.Close()); err != nil {
		return nil, fmt.Errorf("ask the sandbox: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the sandbox: %s: %s", answer.Status, text)
	}
	return text, nil
}
