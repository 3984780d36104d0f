package main

import (
	"math"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

var struck = time.Date(2026, 11, 25, 4, 0, 10, 0, time.UTC)

// row is one that was committed some milliseconds after the fault.
func row(node string, epoch uint64, ms int) committed {
	return committed{
		commitorder.Row{Node: node, Epoch: epoch, PID: int64(epoch) * 10, Seq: int64(ms) + 100_000},
		struck.Add(time.Duration(ms) * time.Millisecond),
	}
}

// whole is from the fault to 8 s after it; the fault is healed after 4 s.
var whole = window{struck, struck.Add(4 * time.Second), struck.Add(8 * time.Second)}

func measured(rows ...committed) Run {
	r := Run{Old: 3}
	r.measure(rows, whole)
	return r
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestMeasureTakeover(t *testing.T) {
	r := measured(row("a", 3, -500), row("a", 3, -2), row("b", 4, 398), row("b", 4, 5000), row("b", 4, 7900))
	if r.New != 4 || r.NewHost != "b" || !near(r.Gap, 0.4) || !near(r.After, 0.398) || !near(r.Silence, 4.602) {
		t.Errorf("measured %+v", r)
	}
	if r.Late || r.Stale != 0 || r.StaleByTime != 0 || r.Writers != 1 || r.Rows != 5 {
		t.Errorf("measured %+v", r)
	}
}

func TestMeasureSplit(t *testing.T) {
	r := measured(row("a", 3, -2), row("a", 3, 300), row("b", 4, 301), row("a", 3, 302), row("b", 4, 7500), row("a", 3, 7600))
	if r.Stale != 2 || r.StaleByTime != 2 || r.Writers != 2 || !near(r.Gap, 0.001) {
		t.Errorf("measured %+v", r)
	}
}

// TestMeasureOrderOfTheLogDecides: a row that the log has after the new one's is stale whatever its time says.
func TestMeasureOrderOfTheLogDecides(t *testing.T) {
	r := measured(row("a", 3, -2), row("b", 4, 400), row("a", 3, 399), row("b", 4, 7900))
	if r.Stale != 1 || r.StaleByTime != 0 {
		t.Errorf("measured %+v", r)
	}
}

func TestMeasureShared(t *testing.T) {
	if r := measured(row("a", 3, -2), row("b", 4, 400), row("a", 4, 410)); r.Shared != 1 {
		t.Errorf("measured %+v", r)
	}
}

func TestMeasureNobody(t *testing.T) {
	r := measured(row("a", 3, -500), row("a", 3, -100))
	if r.New != 0 || r.Writers != 0 || !near(r.Silence, 8.1) || r.Gap != 0 {
		t.Errorf("measured %+v", r)
	}
}

func TestMeasureOldStays(t *testing.T) {
	r := measured(row("a", 3, -10), row("a", 3, 5000), row("a", 3, 7900))
	if r.New != 0 || r.Writers != 1 || !near(r.Silence, 5.01) {
		t.Errorf("measured %+v", r)
	}
}

func TestMeasureLate(t *testing.T) {
	if r := measured(row("a", 3, -10), row("b", 4, 4001), row("b", 4, 7900)); !r.Late || r.New != 4 {
		t.Errorf("measured %+v", r)
	}
	notHealed := Run{Old: 3}
	notHealed.measure([]committed{row("a", 3, -10), row("b", 4, 4001)}, window{fault: struck, end: whole.end})
	if notHealed.Late {
		t.Errorf("there was nothing to heal: %+v", notHealed)
	}
}

func TestQuantile(t *testing.T) {
	ten := []float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for _, test := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{nil, 0.5, 0},
		{[]float64{3}, 0.5, 3},
		{[]float64{3, 1}, 0.5, 1},
		{ten, 0.5, 5},
		{ten, 0.99, 10},
		{ten, 1, 10},
		{hundred, 0.99, 99},
		{hundred, 0.5, 50},
	} {
		if got := quantile(test.values, test.q); got != test.want {
			t.Errorf("quantile %v of %d values is %v, want %v", test.q, len(test.values), got, test.want)
		}
	}
	if ten[0] != 10 {
		t.Error("the values were sorted in place")
	}
}

func TestReceived(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 01014D0A:9C40 0B014D0A:D431 01 00000000:0000004E 02:000A 00000000 0 0 1 2
   1: 01014D0A:9C40 0B014D0A:D432 01 0000000A:00000000 02:000A 00000000 0 0 1 2
`
	for port, want := range map[int]uint64{0xD431: 0x4E, 0xD432: 0, 0xD433: 0} {
		if got := received(table, "10.77.1.11", port); got != want {
			t.Errorf("port %d: %d bytes wait, want %d", port, got, want)
		}
	}
	if received(table, "nowhere", 0xD431) != 0 {
		t.Error("an address that is none has a connection")
	}
}
