package audit

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// schedulers finds the epoch of each row and looks whether one went on beside another. Airflow does not know of epochs, so the match is by time.
func (j *judge) schedulers() {
	rows := slices.SortedFunc(slices.Values(j.evidence.Schedulers), func(a, b Scheduler) int { return cmp.Compare(a.ID, b.ID) })
	for _, s := range rows {
		if s.Start.IsZero() || s.Beat.IsZero() {
			j.remark("scheduler row %d has no start or no heartbeat", s.ID)
			continue
		}
		epoch := j.epochOf(s)
		number := epoch.Epoch
		for _, other := range epoch.Schedulers {
			if both := earlier(s.Beat, other.Beat).Sub(later(s.Start, other.Start)); number != 0 && both > j.skew {
				j.find(Overlap, number, "scheduler rows %d (%s) and %d (%s) both beat in epoch %d, beside each other for %s",
					other.ID, orDash(other.Host), s.ID, orDash(s.Host), number, short(both))
			}
		}
		j.outlives(s, epoch)
		epoch.Schedulers = append(epoch.Schedulers, s)
		epoch.Tries += j.evidence.Tries[s.ID]
	}
}

// outlives looks for a heartbeat after the end of the row's own epoch.
func (j *judge) outlives(s Scheduler, own *Epoch) {
	end, by := own.Superseded, own.By
	if own.Epoch == 0 && len(j.takes) > 0 {
		end, by = j.takes[0].At, j.takes[0].Epoch
	}
	switch {
	case by == 0:
	case s.Beat.Sub(end) > j.skew:
		j.find(Overlap, own.Epoch, "scheduler row %d (%s, %s) began before epoch %d was taken and beat for %s after that",
			s.ID, orDash(s.Host), orDash(s.State), by, short(s.Beat.Sub(end)))
	case s.State == "running":
		j.remark("scheduler row %d (%s) of before epoch %d is still called running: nobody has adopted its tasks", s.ID, orDash(s.Host), by)
	}
}

// epochOf is the epoch of the newest take before the row's start. The clock of its host may be late: a row that seems to begin shortly before a
// take is of that take, if the epoch before has its row already or this one would outlive it. No doubt about a clock becomes a finding so; a
// row that is not the next epoch's own is then found beside that one's.
func (j *judge) epochOf(s Scheduler) *Epoch {
	n := j.takeAt(s.Start)
	for ; n+1 < len(j.takes); n++ {
		next := j.takes[n+1].At
		if next.Sub(s.Start) > j.skew || len(j.epochOfTake(n).Schedulers) == 0 && s.Beat.Sub(next) <= j.skew {
			break
		}
	}
	return j.epochOfTake(n)
}

// takeAt is the last take that was not after a time; -1: there was none.
func (j *judge) takeAt(when time.Time) int {
	found := -1
	for n, take := range j.takes {
		if !take.At.After(when) {
			found = n
		}
	}
	return found
}

func (j *judge) epochOfTake(n int) *Epoch {
	if n < 0 {
		return j.epoch(0, "")
	}
	return j.epoch(j.takes[n].Epoch, j.takes[n].Node)
}

// What Airflow's log says of a try that begins, and of one that is to begin again: it waits for something, or its run was deleted.
const lineRunning = "running"

var (
	pauses    = []string{"up_for_reschedule", "deferred", "awaiting_input", "scheduled"}
	deletions = []string{"delete_dag_run", "delete_dag"}
)

// tries wants one line "running" of each try. A sensor that is rescheduled and a task that was deferred come back as the same try, and say so before.
func (j *judge) tries() {
	began := map[Try]Line{}
	for _, line := range slices.SortedFunc(slices.Values(j.evidence.Lines), func(a, b Line) int { return cmp.Compare(a.ID, b.ID) }) {
		switch first, on := began[line.Try]; {
		case slices.Contains(pauses, line.Event) || slices.Contains(deletions, line.Event):
			delete(began, line.Try)
		case line.Event != lineRunning:
		case line.At.Before(line.Made.Add(-j.skew)): // of a run of that name that was there before
		case on:
			t := line.Try
			j.find(TryTwice, j.epochOfTake(j.takeAt(line.At)).Epoch, "try %d of task %s, run %s, DAG %s%s began at %s on %s and at %s on %s", t.Number, t.Task, t.Run, t.DAG, mapped(t.Map),
				clock(first.At), orDash(first.Host), clock(line.At), orDash(line.Host))
		default:
			began[line.Try] = line
		}
	}
}

func mapped(index int) string {
	if index < 0 {
		return ""
	}
	return ", map index " + strconv.Itoa(index)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
