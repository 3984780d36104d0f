package web

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// listen opens the events of a server and returns the lines that come.
func listen(t *testing.T, s *Server) (*http.Response, *bufio.Scanner) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr()+"/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return answer, lines
}

// next is the next state that is sent.
func next(t *testing.T, lines *bufio.Scanner) (html string) {
	t.Helper()
	beat := false
	for lines.Scan() {
		if lines.Text() == "event: beat" || beat {
			beat = lines.Text() != ""
			continue
		}
		if text, is := strings.CutPrefix(lines.Text(), "data: "); is {
			if err := json.Unmarshal([]byte(text), &html); err != nil {
				t.Fatal(err)
			}
			return html
		}
	}
	t.Fatalf("the stream has ended: %v", lines.Err())
	return ""
}

func TestEventsTellWhatChanges(t *testing.T) {
	var epoch atomic.Uint64
	epoch.Store(7)
	s := newServer(t, func() View {
		v := twoJobs()
		v.Jobs[0].Epoch = epoch.Load()
		return v
	})
	run(t, s)
	answer, lines := listen(t, s)
	if answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v", answer.Header)
	}
	if first := next(t, lines); !strings.Contains(first, "<dd>7</dd>") || strings.Contains(first, "<html") {
		t.Errorf("first %s", first)
	}
	time.Sleep(2 * eventsEvery) // nothing changes, so nothing is sent
	epoch.Store(8)
	if second := next(t, lines); !strings.Contains(second, "<dd>8</dd>") {
		t.Errorf("second %s", second)
	}
}

func TestLivePagesAreNotWithoutEnd(t *testing.T) {
	s := newServer(t, twoJobs)
	run(t, s)
	for range maxStreams {
		_, lines := listen(t, s)
		next(t, lines)
	}
	if answer, _ := listen(t, s); answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one too many: %s", answer.Status)
	}
}

func TestLanesSayWhoHeldTheJob(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	v := twoJobs()
	v.Now = now
	v.Moves = []MoveView{
		{Job: "scheduler", Epoch: 3, Kind: "grant", Node: "b", At: now.Add(-50 * time.Second)},
		{Job: "scheduler", Epoch: 2, Kind: "release", Node: "a", At: now.Add(-60 * time.Second)},
		{Job: "etl", Epoch: 1, Kind: "grant", Node: "a"}, // when is not known
		{Job: "scheduler", Epoch: 2, Kind: "grant", Node: "a", At: now.Add(-100 * time.Second)},
	}
	lanes := v.Lanes()
	if len(lanes) != 1 || len(lanes[0].Spans) != 3 {
		t.Fatalf("%+v", lanes)
	}
	for i, want := range []Span{{X: 0, Width: 40, Class: "one", Label: "a"}, {X: 40, Width: 10, Class: "none"}, {X: 50, Width: 50, Class: "two", Label: "b"}} {
		got := lanes[0].Spans[i]
		if got.X != want.X || got.Width != want.Width || got.Class != want.Class || got.Label != want.Label {
			t.Errorf("span %d: %+v, want %+v", i, got, want)
		}
	}
}

func TestPercentIsWhatTheJobSays(t *testing.T) {
	for text, want := range map[string]int{"": -1, "41 %": 41, "load 2018 (3 of 12 chunks, 25 %, about 9 s left)": 25, "400 %": -1, "1000 %": -1} {
		if got := (JobView{Status: text}).Percent(); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
