package schedule

import (
	"fmt"
	"time"
)

// line says for people what was decided on and what it rests on. Times are the database's, in the schedule's zone.
func (d Decision) line(p Past) string {
	if !d.Run.IsZero() {
		text := fmt.Sprintf("slot %s runs since %s", stamp(d.Run, d.Run), stamp(p.Now, d.Run))
		if d.Run.Equal(p.Slot) && p.Tries > 0 {
			text += fmt.Sprintf(", try %d", p.Tries+1)
		}
		return text
	}
	again := p.Failed && !p.Settled
	next := "next slot " + stamp(d.Next, d.Next)
	switch {
	case d.Next.IsZero():
		next = "no slot within five years"
	case again:
		next = "next try " + stamp(d.Next, d.Next)
	}
	slot := stamp(p.Slot, d.Next)
	switch {
	case p.Seen:
		return next + "; none was run yet"
	case again:
		return fmt.Sprintf("%s; slot %s failed %d times, last with exit code %d", next, slot, p.Failures, p.Exit)
	case p.Failed:
		return fmt.Sprintf("%s; slot %s failed with exit code %d and is not tried again", next, slot, p.Exit)
	}
	return next + "; slot " + slot + " is done"
}

// stamp writes a time in the zone of another, as the command is told its slot.
func stamp(t, zone time.Time) string { return t.In(zone.Location()).Format(time.RFC3339) }
