package airflowctl

import (
	"testing"
	"time"
)

// TestOnlyWitnessedTimeCounts goes through an outage and a change of epoch.
func TestOnlyWitnessedTimeCounts(t *testing.T) {
	var w witnessed
	begin := time.Now()
	for i, step := range []struct {
		at       int // seconds
		epoch    uint64
		idle     int
		answered bool
		counts   int
		judged   bool
	}{
		{at: 0, epoch: 1, idle: 3, answered: true},
		{at: 2, epoch: 1, idle: 1, answered: true, counts: 1, judged: true},
		{at: 4, epoch: 1, idle: 30, answered: true, counts: 4, judged: true}, // a clock that jumped
		{at: 20, epoch: 1, idle: 17, answered: true, counts: 17, judged: true},
		{at: 22, epoch: 1, answered: false},
		{at: 52, epoch: 1, idle: 49, answered: true}, // nobody knows what it did meanwhile
		{at: 54, epoch: 1, idle: 51, answered: true, counts: 2, judged: true},
		{at: 68, epoch: 1, idle: 65, answered: true, counts: 16, judged: true}, // it is hung all the same
		{at: 70, epoch: 2, idle: 40, answered: true},
		{at: 72, epoch: 2, idle: 42, answered: true, counts: 2, judged: true},
	} {
		now := begin.Add(time.Duration(step.at) * time.Second)
		counts, judged := w.count(now, step.epoch, time.Duration(step.idle)*time.Second, step.answered)
		if counts != time.Duration(step.counts)*time.Second || judged != step.judged {
			t.Errorf("step %d: %s, %v", i, counts, judged)
		}
	}
}
