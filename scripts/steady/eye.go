package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

const (
	// lookEvery is how often the nodes are asked for their metrics.
	lookEvery = 5 * time.Second
	// answerWithin bounds one answer; a node that is cut off or frozen gives none.
	answerWithin = 3 * time.Second
)

// Sample is what the nodes said of themselves at one time. Durations are in seconds.
type Sample struct {
	At     time.Time
	Leader string // "" = none of those that answered
	Term   uint64 // the highest
	// D is how long the leader would let the active node be unheard.
	D float64
	// Gaps are those between that node's beats as the leader heard them in the last ten to twenty minutes, by quantile.
	Gaps  map[string]float64 `json:",omitempty"`
	Fsync map[string]float64 // p99 of the raft log's commits, by node
}

// eye looks at the nodes' metrics.
type eye struct {
	client *http.Client
	nodes  map[string]*lab.Node
}

func newEye(s *stage) (*eye, error) {
	dir := filepath.Join(s.Lab.Dir, "tls")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "lab.pem"), filepath.Join(dir, "lab.key"))
	if err != nil {
		return nil, fmt.Errorf("load operator's certificate: %w", err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, errors.New("load authority: no certificate in it")
	}
	return &eye{nodes: s.Cluster.Nodes, client: &http.Client{Timeout: answerWithin, Transport: &http.Transport{
		DisableKeepAlives: true, // a connection to a node that was killed, or cut off meanwhile, is worth nothing
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool},
	}}}, nil
}

// look asks all nodes at once.
func (e *eye) look(ctx context.Context, active string) Sample {
	var all sync.WaitGroup
	var mu sync.Mutex
	heard := map[string]metrics{}
	for name, node := range e.nodes {
		all.Go(func() {
			m, err := e.scrape(ctx, "https://"+node.HTTP()+"/metrics")
			if err != nil {
				return // down, frozen or cut off, as it should be at times
			}
			mu.Lock()
			heard[name] = m
			mu.Unlock()
		})
	}
	all.Wait()
	return sampleOf(heard, active)
}

func sampleOf(heard map[string]metrics, active string) Sample {
	s := Sample{At: time.Now(), Fsync: map[string]float64{}, Gaps: map[string]float64{}}
	for name, m := range heard {
		s.Term = max(s.Term, uint64(m["duoflow_raft_term"]))
		s.Fsync[name] = m["duoflow_log_fsync_p99_seconds"]
		if m["duoflow_raft_leader"] != 1 {
			continue
		}
		s.Leader = name
		s.D = m[fmt.Sprintf("duoflow_detection_seconds{job=%q,peer=%q}", probe.Job, active)]
		for _, q := range []string{"0.5", "0.99", "0.999", "1"} {
			s.Gaps[q] = m[fmt.Sprintf("duoflow_beat_gap_seconds{job=%q,peer=%q,quantile=%q}", probe.Job, active, q)]
		}
	}
	return s
}

func (e *eye) scrape(ctx context.Context, url string) (metrics, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	answer, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read %s: %s", url, answer.Status)
	}
	return parseMetrics(answer.Body)
}

// metrics are values by name and labels, as Prometheus's text format writes them.
type metrics map[string]float64

func parseMetrics(text io.Reader) (metrics, error) {
	m := metrics{}
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
