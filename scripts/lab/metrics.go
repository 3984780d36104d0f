package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Metrics are values by name and labels, as Prometheus's text format writes them.
type Metrics map[string]float64

// Scraper asks daemons for their metrics, as an operator. Its methods are safe for concurrent use.
type Scraper struct{ client *http.Client }

// NewScraper returns one that waits so long for an answer: a node that is cut off, frozen or restarts gives none.
func (c *Cluster) NewScraper(within time.Duration) (*Scraper, error) {
	operator, err := c.operatorTLS()
	if err != nil {
		return nil, err
	}
	return &Scraper{&http.Client{Timeout: within, Transport: &http.Transport{
		DisableKeepAlives: true, // a kept connection is one more open file of who is looked at, and to a node that was killed it is worth nothing
		TLSClientConfig:   operator,
	}}}, nil
}

// Ask returns what a node says of itself now.
func (s *Scraper) Ask(ctx context.Context, n *Node) (Metrics, error) {
	url := "https://" + n.HTTP() + "/metrics"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: %s", url, answer.Status)
	}
	return ParseMetrics(answer.Body)
}

// ParseMetrics reads Prometheus's text format. A value that is no number is an error.
func ParseMetrics(text io.Reader) (Metrics, error) {
	m := Metrics{}
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("parse metric %q: %w", line, err)
		}
		m[line[:i]] = value
	}
	return m, lines.Err()
}
