package schedule

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestLine(t *testing.T) {
	now := time.Date(2026, 3, 5, 10, 0, 30, 7, time.UTC)
	slot := now.Truncate(time.Hour)
	for _, tt := range []struct {
		schedule string
		past     Past
		want     string
	}{
		{"@hourly", Past{Slot: slot.Add(20 * time.Second), Settled: true, Seen: true, Tries: 1}, "next slot 2026-03-05T11:00:00Z; none was run yet"},
		{"@hourly", Past{Slot: slot, Settled: true, Tries: 1}, "next slot 2026-03-05T11:00:00Z; slot 2026-03-05T10:00:00Z is done"},
		{"CRON_TZ=Europe/Berlin 0 * * * *", Past{Slot: slot, Settled: true, Tries: 1}, "next slot 2026-03-05T12:00:00+01:00; slot 2026-03-05T11:00:00+01:00 is done"},
		{"@hourly", Past{Slot: slot.Add(-time.Hour), Settled: true, Tries: 1}, "slot 2026-03-05T10:00:00Z runs since 2026-03-05T10:00:30Z"},
		{"@hourly", Past{Slot: slot, Tries: 2}, "slot 2026-03-05T10:00:00Z runs since 2026-03-05T10:00:30Z, try 3"},
		{"@hourly", Past{Slot: slot, Failed: true, Tries: 4, Failures: 4, Exit: 5, Ended: now},
			"next try 2026-03-05T10:00:34Z; slot 2026-03-05T10:00:00Z failed 4 times, last with exit code 5"},
		{"@hourly", Past{Slot: slot, Failed: true, Settled: true, Tries: 1, Failures: 1, Exit: 3, Ended: now},
			"next slot 2026-03-05T11:00:00Z; slot 2026-03-05T10:00:00Z failed with exit code 3 and is not tried again"},
	} {
		tt.past.Now = now
		s := parse(t, tt.schedule)
		if got := s.Decide(tt.past).line(tt.past); got != tt.want {
			t.Errorf("%s, %+v:\n got %s\nwant %s", tt.schedule, tt.past, got, tt.want)
		}
	}
	if got, want := (Decision{}).line(Past{Slot: slot, Settled: true}), "no slot within five years; slot 2026-03-05T10:00:00Z is done"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestTellsWhatChanges, and nothing twice.
func TestTellsWhatChanges(t *testing.T) {
	s := &stepped{past: Past{Now: time.Unix(0, 0).UTC().Add(10*time.Hour + 59*time.Minute + 59*time.Second + 990*time.Millisecond)}}
	s.steps = []time.Duration{0, 0, 20 * time.Millisecond, 0, 0}
	var told []string
	r, err := New(Config{
		Schedule: parse(t, "@every 1h"), Command: []string{"true"}, Ledger: s, Tell: func(line string) { told = append(told, line) },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.askEvery = 10 * time.Millisecond
	if err := r.Run(t.Context()); !errors.Is(err, ErrFenced) {
		t.Fatal(err)
	}
	want := []string{
		"next slot 1970-01-01T11:00:00Z; none was run yet", "slot 1970-01-01T11:00:00Z runs since 1970-01-01T11:00:00Z",
		"next slot 1970-01-01T12:00:00Z; slot 1970-01-01T11:00:00Z is done",
	}
	if got := strings.Join(told, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("told\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}
