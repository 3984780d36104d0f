package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/duoflow/duoflow/scripts/takeover"
)

// ratio says how many times as long native took, by the medians. It is empty where that cannot be said: nothing
// measured, or duoflow's own value only bounded.
func ratio(native, own takeover.Summary) string {
	if native.N == 0 || own.N == 0 || own.P50.Over || own.P50.Seconds <= 0 {
		return ""
	}
	r := native.P50.Seconds / own.P50.Seconds
	text := fmt.Sprintf("%.1f x", r)
	if r >= 10 {
		text = fmt.Sprintf("%.0f x", r)
	}
	if native.P50.Over {
		return "> " + text
	}
	return text
}

// longestGap is the longest time within [from, to] without any of the events.
func longestGap(events []time.Time, from, to time.Time) time.Duration {
	sorted := slices.Clone(events)
	slices.SortFunc(sorted, time.Time.Compare)
	longest, before := time.Duration(0), from
	for _, at := range append(sorted, to) {
		if at.Before(from) || at.After(to) {
			continue
		}
		longest, before = max(longest, at.Sub(before)), at
	}
	return longest
}

// task is one that the victim had queued and that had not begun when the fault came.
type task struct {
	Run, ID string
	Message string    // its id as a message in the broker
	Sent    bool      // the message has been seen by the worker
	Began   time.Time // of its body, zero: not yet
	Left    time.Time // when it stopped being queued by the victim, because it began or another took it over; zero: not yet
}

// trial is one fault that hit, and what came of it.
type trial struct {
	Case    string
	Round   int
	Victim  string    // who was hit, and when, in words
	At      time.Time // of the fault
	Load    string    // of the machine then: load averages over 1, 5 and 15 minutes
	Missed  int       // faults before this one that came too late
	Hit     bool      // false: all came too late, and nothing below was measured
	Age     float64   `json:",omitempty"` // seconds that the other native scheduler had been running; its timers count from there
	Orphans []task    // begun bodies of the victim's tasks

	// Started is when the last of Orphans had begun, after the fault.
	Started takeover.Span
	// Left is when the last of Orphans had stopped being queued by the victim.
	Left takeover.Span
	// Wait is the longest time from the trigger of a run to the begin of its task, of the runs triggered within hold after
	// the fault.
	Wait takeover.Span
	// Next is when another scheduler queued a task.
	Next takeover.Span
	// Before and After are the longest times without any task being queued, in the window before and after the fault.
	Before, After takeover.Span
	// Meanwhile are the tasks that others queued while the victim was frozen; kill: -1.
	Meanwhile int

	// Tasks of the whole case, faults that missed included; Twice began more than once, Never not within the limit.
	Tasks, Twice, Never int

	victim   takeover.Target
	versions string
	prefix   string // of the ids of its runs, without the attempt
}

// unsent counts the orphans whose message had not left the victim.
func (t *trial) unsent() int {
	n := 0
	for _, o := range t.Orphans {
		if !o.Sent {
			n++
		}
	}
	return n
}

// stuck counts the orphans that had not begun at the end.
func (t *trial) stuck() int {
	n := 0
	for _, o := range t.Orphans {
		if o.Began.IsZero() {
			n++
		}
	}
	return n
}

// last is the latest of the times, after at; longer than limit when one of them has not come.
func last(times []time.Time, at time.Time, limit time.Duration) takeover.Span {
	latest := time.Duration(0)
	for _, t := range times {
		if t.IsZero() {
			return takeover.LongerThan(limit)
		}
		latest = max(latest, t.Sub(at))
	}
	return takeover.Took(latest)
}

// settle fills in what the orphans say together.
func (t *trial) settle(limit time.Duration) {
	var began, left []time.Time
	for _, o := range t.Orphans {
		began, left = append(began, o.Began), append(left, o.Left)
	}
	t.Started, t.Left = last(began, t.At, limit), last(left, t.At, limit)
}
