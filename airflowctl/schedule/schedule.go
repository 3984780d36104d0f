package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // hosts without a zone database, such as slim containers, know the zones too

	"github.com/robfig/cron/v3"
)

// Schedule is a set of slots: instants, in whole seconds, at which a job is to run. Use Parse; the zero value has none.
type Schedule struct {
	zone *time.Location
	cron cron.Schedule
	// every is the period of an @every schedule; 0 for the others.
	every time.Duration
}

// Parse reads five cron fields (minute, hour, day of the month, month, day of the week), @hourly, @daily, @weekly,
// @monthly or @yearly, each in UTC unless CRON_TZ=<zone> and a space come before it; or @every <duration>, in whole seconds,
// whose slots are the multiples of the duration since 1970-01-01T00:00:00Z, so that they are the same on every host and
// after every restart.
func Parse(text string) (Schedule, error) {
	s := Schedule{zone: time.UTC}
	rest := strings.TrimSpace(text)
	name, zoned := cutZone(rest)
	if zoned {
		var err error
		if name, rest, zoned = strings.Cut(name, " "); !zoned {
			return Schedule{}, errors.New("nothing comes after the time zone")
		}
		if s.zone, err = time.LoadLocation(name); err != nil || name == "" || name == "Local" {
			return Schedule{}, fmt.Errorf("time zone %q is not known; want one such as Europe/Berlin", name)
		}
		rest = strings.TrimSpace(rest)
	}
	if _, twice := cutZone(rest); twice || rest == "" {
		return Schedule{}, errors.New("want one time zone at most, and a schedule")
	}
	if period, found := strings.CutPrefix(rest, "@every "); found {
		return parseEvery(strings.TrimSpace(period), zoned)
	}
	var err error
	if s.cron, err = cron.ParseStandard(rest); err != nil {
		return Schedule{}, err
	}
	if s.Next(time.Unix(0, 0)).IsZero() {
		return Schedule{}, errors.New("there is no such day")
	}
	return s, nil
}

// cutZone returns what comes after CRON_TZ= or TZ=, which cron's own parser panics on when nothing follows.
func cutZone(text string) (rest string, found bool) {
	if rest, found = strings.CutPrefix(text, "CRON_TZ="); found {
		return rest, true
	}
	return strings.CutPrefix(text, "TZ=")
}

func parseEvery(text string, zoned bool) (Schedule, error) {
	period, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return Schedule{}, fmt.Errorf("@every %q: want a duration such as 90s or 6h", text)
	case zoned:
		return Schedule{}, errors.New("@every has no use for a time zone")
	case period < time.Second || period%time.Second != 0:
		return Schedule{}, fmt.Errorf("@every %s: want whole seconds, at least one", text)
	}
	return Schedule{zone: time.UTC, every: period}, nil
}

// Next returns the first slot after an instant, in the schedule's zone; zero when there is none within five years.
func (s Schedule) Next(after time.Time) time.Time {
	if s.every > 0 {
		seconds := int64(s.every / time.Second)
		past := after.Unix() / seconds
		if after.Unix() < 0 && after.Unix()%seconds != 0 {
			past--
		}
		return time.Unix((past+1)*seconds, 0).In(s.zone)
	}
	return s.cron.Next(after.In(s.zone)) // the text that cron read names no zone, so that of its argument counts
}

// latest returns the newest slot after an instant, up to now; zero when there is none. It halves the span between, so that
// a year of missed minutes costs no more than a few dozen looks.
func (s Schedule) latest(after, now time.Time) time.Time {
	var found time.Time
	low, high := after, now
	for {
		next := s.Next(low)
		if next.IsZero() || next.After(now) {
			return found
		}
		found, low = next, next
		middle := low.Add(high.Sub(low) / 2)
		if next := s.Next(middle); next.IsZero() || next.After(now) {
			high = middle
		} else {
			found, low = next, next
		}
	}
}
