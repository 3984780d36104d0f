package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// dashboard starts the dashboard over what the pipeline has loaded, and looks that its page says that the data are synthetic.
func (s *stage) dashboard(ctx context.Context) (string, error) {
	s.say("starting the dashboard")
	url, err := s.pipeline.StartDashboard(ctx)
	if err != nil {
		return "", err
	}
	text, err := page(ctx, url)
	if err != nil {
		return "", err
	}
	if !strings.Contains(text, "synthetic data") {
		return "", fmt.Errorf("look at the dashboard: its page does not say that the data are synthetic: %.200s", text)
	}
	return url, nil
}

// page reads a page of this machine, past any proxy.
func page(ctx context.Context, url string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", fmt.Errorf("look at the dashboard: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return "", fmt.Errorf("look at the dashboard: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", answer.Status)
	}
	if err != nil {
		return "", fmt.Errorf("look at the dashboard: %w", err)
	}
	return string(text), nil
}
