package schedule

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func at(t testing.TB, text string) time.Time {
	t.Helper()
	instant, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return instant
}

func parse(t testing.TB, text string) Schedule {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return s
}

func TestNext(t *testing.T) {
	// As on a host whose own zone is another: it has no say.
	elsewhere := time.FixedZone("elsewhere", 5*3600)
	for _, tt := range []struct{ schedule, after, want string }{
		{"0 3 * * *", "2026-11-25T02:59:59Z", "2026-11-25T03:00:00Z"},
		{"0 3 * * *", "2026-11-25T03:00:00Z", "2026-11-26T03:00:00Z"},
		{"*/15 9-17 * * mon-fri", "2026-11-27T17:45:00Z", "2026-11-30T09:00:00Z"},
		{"@hourly", "2026-11-25T23:10:00Z", "2026-11-26T00:00:00Z"},
		{"@daily", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"},
		{"@weekly", "2026-11-25T00:00:00Z", "2026-11-29T00:00:00Z"},
		{"@monthly", "2026-11-25T00:00:00Z", "2026-12-01T00:00:00Z"},
		{"0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", "2026-11-25T00:00:00Z", "2026-11-25T03:00:00+01:00"},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", "2026-07-01T00:00:00Z", "2026-07-01T03:00:00+02:00"},
		{"TZ=Europe/Berlin @daily", "2026-07-01T00:00:00Z", "2026-07-02T00:00:00+02:00"},
		// The night without a half past two, and the one with two of them.
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T02:30:00+02:00"},
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T02:30:00+02:00"},
		{"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00+01:00"},
		{"CRON_TZ=Europe/Berlin 30 * * * *", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00+01:00"},
		{"@every 2s", "2026-11-25T00:00:01.5Z", "2026-11-25T00:00:02Z"},
		{"@every 2s", "2026-11-25T00:00:02Z", "2026-11-25T00:00:04Z"},
		{"@every 1h30m", "1970-01-01T00:00:00Z", "1970-01-01T01:30:00Z"},
		{"@every 7h", "1969-12-31T20:00:00Z", "1970-01-01T00:00:00Z"},
	} {
		got := parse(t, tt.schedule).Next(at(t, tt.after).In(elsewhere)).Format(time.RFC3339)
		if got != tt.want {
			t.Errorf("%s after %s: %s, want %s", tt.schedule, tt.after, got, tt.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", " ", "daily", "@reboot", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "*/0 * * * *",
		"CRON_TZ=", "TZ=", "CRON_TZ=Europe/Berlin", "TZ=Europe/Berlin ", "CRON_TZ=Nowhere/Land @daily", "CRON_TZ= @daily",
		"CRON_TZ=Local @daily", "CRON_TZ=UTC TZ=UTC @daily", "CRON_TZ=UTC TZ=", "CRON_TZ=UTC @every 5s",
		"@every", "@every ", "@every soon", "@every 500ms", "@every 1500ms", "@every 0s", "@every -5s",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%q is taken; its first slot is %s", text, s.Next(time.Unix(0, 0)))
		}
	}
}

// FuzzParse: cron's own parser panics on some texts.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"@daily", "CRON_TZ=Europe/Berlin 0 3 * * *", "TZ=0", "@every 2s", "1-5/2,7 * L ? jan-mar"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			if s != (Schedule{}) || err.Error() == "" {
				t.Errorf("%q: %+v beside %v", text, s, err)
			}
			return
		}
		from := time.Unix(1_700_000_000, 0)
		next := s.Next(from)
		if !next.IsZero() && (!next.After(from) || next.Nanosecond() != 0 || !s.Next(from).Equal(next)) {
			t.Errorf("%q: %s comes after %s", text, next, from)
		}
		now := from.Add(36 * time.Hour)
		last := s.latest(from, now)
		if last.IsZero() != (next.IsZero() || next.After(now)) {
			t.Fatalf("%q: the next slot is %s, the latest until %s is %s", text, next, now, last)
		}
		if after := s.Next(last); !last.IsZero() && (last.After(now) || last.Before(next) || !after.IsZero() && !after.After(now)) {
			t.Errorf("%q: %s comes between the latest slot %s and %s", text, after, last, now)
		}
	})
}

// TestSlotsAreTheSameFromEverywhere: whether an instant is a slot does not depend on where one starts to look, clock changes
// included. Decide rests on it.
func TestSlotsAreTheSameFromEverywhere(t *testing.T) {
	for _, text := range []string{
		"*/7 * * * *", "CRON_TZ=Europe/Berlin */20 1-3 * * *", "CRON_TZ=America/St_Johns 30 2 * * *", "@every 17m",
		"CRON_TZ=Australia/Lord_Howe */15 * * * *",
	} {
		s := parse(t, text)
		for _, from := range []string{"2026-03-07T20:00:00Z", "2026-03-28T22:00:00Z", "2026-04-04T10:00:00Z", "2026-10-24T22:00:00Z", "2026-10-31T20:00:00Z"} {
			begin := at(t, from)
			var slots []time.Time
			for slot := s.Next(begin); slot.Before(begin.Add(14 * time.Hour)); slot = s.Next(slot) {
				slots = append(slots, slot)
			}
			for second, i := 0, 0; second < 12*3600; second += 101 {
				look := begin.Add(time.Duration(second) * time.Second)
				for i < len(slots) && !slots[i].After(look) {
					i++
				}
				if i < len(slots) && !s.Next(look).Equal(slots[i]) {
					t.Fatalf("%s: after %s comes %s, or %s when one comes from %s", text, look, s.Next(look), slots[i], begin)
				}
			}
		}
	}
}

// TestLatest compares the search with a walk.
func TestLatest(t *testing.T) {
	draw := rand.New(rand.NewPCG(1, 2))
	for _, text := range []string{"*/7 * * * *", "0 3 * * *", "* 9-17 * * mon-fri", "0 0 1 */3 *", "@every 13m", "CRON_TZ=Europe/Berlin */20 1-3 * * *"} {
		s := parse(t, text)
		for range 20 {
			after := time.Unix(1_760_000_000+draw.Int64N(40_000_000), draw.Int64N(1e9))
			now := after.Add(time.Duration(draw.Int64N(int64(40*24*time.Hour))) - time.Hour)
			var want time.Time
			for slot := s.Next(after); !slot.After(now); slot = s.Next(slot) {
				want = slot
			}
			if got := s.latest(after, now); !got.Equal(want) {
				t.Fatalf("%s: latest in (%s, %s] is %s, want %s", text, after, now, got, want)
			}
		}
	}
}

func TestDecide(t *testing.T) {
	const day = "2026-11-25T"
	for _, tt := range []struct {
		what, schedule, slot, state string
		tries                       int
		now, run, next              string
	}{
		{"seen only, slot to come", "@hourly", "10:10:00", "settled", 1, "10:20:00", "", "11:00:00"},
		{"seen only, slot has come", "@hourly", "10:10:00", "settled", 1, "11:00:00", "11:00:00", ""},
		{"done, next not due", "@hourly", "10:00:00", "settled", 1, "10:59:59", "", "11:00:00"},
		{"done, next due", "@hourly", "10:00:00", "settled", 1, "11:00:01", "11:00:00", ""},
		{"missed many: the latest only", "@hourly", "02:00:00", "settled", 1, "11:30:00", "11:00:00", ""},
		{"a run longer than the period swallows all but the latest", "@every 2s", "10:00:00", "settled", 1, "10:00:09", "10:00:08", ""},
		{"interrupted", "@hourly", "10:00:00", "interrupted", 1, "10:00:30", "10:00:00", ""},
		{"interrupted, and a newer slot is due: first what began", "@hourly", "10:00:00", "interrupted", 1, "12:30:00", "10:00:00", ""},
		{"interrupted too often, nothing newer", "@hourly", "10:00:00", "interrupted", 5, "10:30:00", "10:00:00", ""},
		{"interrupted too often: a newer one takes its place", "@hourly", "10:00:00", "interrupted", 5, "12:30:00", "12:00:00", ""},
		{"failed once: again at once", "@hourly", "10:00:00", "failed 10:29:59", 1, "10:30:00", "10:00:00", ""},
		{"failed twice: after a second", "@hourly", "10:00:00", "failed 10:30:00", 2, "10:30:00", "", "10:30:01"},
		{"failed twice, a second ago: again", "@hourly", "10:00:00", "failed 10:29:59", 2, "10:30:00", "10:00:00", ""},
		{"failed six times: after 16 s", "@hourly", "10:00:00", "failed 10:30:00", 6, "10:30:06", "", "10:30:16"},
		{"failed very often: after a quarter of an hour", "@hourly", "10:00:00", "failed 10:30:00", 80, "10:40:00", "", "10:45:00"},
		{"failed very often: but the next slot comes before", "@hourly", "10:00:00", "failed 10:50:00", 80, "10:51:00", "", "11:00:00"},
		{"failed, and the clock was set back: no longer than the pause", "@hourly", "10:00:00", "failed 10:30:00", 6, "09:30:00", "", "09:30:16"},
		{"failed: until a newer one supersedes it", "@hourly", "10:00:00", "failed", 1, "11:00:00", "11:00:00", ""},
		{"clock jumped back over a slot that is done", "@hourly", "10:00:00", "settled", 1, "09:30:00", "", "11:00:00"},
		{"clock jumped back over a slot that was interrupted", "@hourly", "10:00:00", "interrupted", 1, "09:30:00", "10:00:00", ""},
		{"clock jumped forward: one slot", "@every 1m", "10:00:00", "settled", 1, "18:00:30", "18:00:00", ""},
		{"schedule was changed: the old slot counts", "30 * * * *", "10:00:00", "settled", 1, "10:20:00", "", "10:30:00"},
		{"schedule was changed: what began is finished", "30 * * * *", "10:00:00", "interrupted", 1, "10:20:00", "10:00:00", ""},
	} {
		last, failed := strings.CutPrefix(tt.state, "failed")
		var ended time.Time
		if last != "" && failed {
			ended = at(t, day+strings.TrimSpace(last)+"Z")
		}
		got := parse(t, tt.schedule).Decide(Past{
			Now: at(t, day+tt.now+"Z"), Slot: at(t, day+tt.slot+"Z"), Tries: tt.tries,
			Settled: tt.state == "settled", Failed: failed, Failures: tt.tries, Ended: ended,
		})
		if clock(got.Run) != tt.run || clock(got.Next) != tt.next {
			t.Errorf("%s: run %q, next %q; want %q, %q", tt.what, clock(got.Run), clock(got.Next), tt.run, tt.next)
		}
	}
}

func clock(instant time.Time) string {
	if instant.IsZero() {
		return ""
	}
	return strings.TrimSuffix(instant.Format("15:04:05.999"), ".000")
}

// TestWildClocks: whatever the clock says from one look to the next, slots are begun in order and none is done twice.
func TestWildClocks(t *testing.T) {
	draw := rand.New(rand.NewPCG(7, 7))
	s := parse(t, "@every 10s")
	past := Past{Now: time.Unix(1_000_000_000, 0), Slot: time.Unix(1_000_000_000, 0), Settled: true}
	done := map[int64]bool{}
	for range 20_000 {
		switch draw.IntN(20) {
		case 0:
			past.Now = past.Now.Add(time.Duration(draw.Int64N(int64(10 * time.Minute))))
		case 1:
			past.Now = past.Now.Add(-time.Duration(draw.Int64N(int64(10 * time.Minute))))
		default:
			past.Now = past.Now.Add(time.Duration(draw.Int64N(int64(15 * time.Second))))
		}
		slot := s.Decide(past).Run
		if slot.IsZero() {
			continue
		}
		if slot.Before(past.Slot) || done[slot.Unix()] {
			t.Fatalf("slot %s after %+v", slot, past)
		}
		if !slot.Equal(past.Slot) {
			past.Tries = 0
		}
		past.Slot, past.Tries = slot, past.Tries+1
		end := draw.IntN(3) // done, failed or interrupted
		past.Settled, past.Failed = end == 0, end == 1
		done[slot.Unix()] = past.Settled
	}
	if len(done) < 1000 {
		t.Errorf("only %d slots were run: the test proves little", len(done))
	}
}
