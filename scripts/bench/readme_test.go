package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBlock(t *testing.T) {
	text := sample().block()
	for _, want := range []string{
		"| duoflow, warm | 2 | 0.10 s / 0.10 s | 0.40 s / 0.40 s | 0.50 s / 0.50 s | 0.30 s | 0 of 14 | 0 of 90 |",
		"| two native schedulers | 1 | - | 270 s | 1.00 s | > 330 s | 0 of 6 | - |",
		"| kill-host | 40 ms | 80 ms | 80 ms (1 only after it was undone) | 1.10 s / 1.10 s |  |",
		"| freeze-host | 1 split, 1 two at the end | nobody took over (1 nobody at the end) |",
		"queued-statement: on Postgres 15",
		"duoflow, all 2 runs: 0 rows of an old epoch after a newer one's first, 0 runs without exactly one writer at the end.",
		"commit abc123; load average at the faults p50 1.0, max 5.0",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the block lacks %q:\n%s", want, text)
		}
	}
}

func TestRewrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	for _, bad := range []string{"", "x\n" + blockBegin, blockEnd + blockBegin} {
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := sample().rewrite(path); err == nil {
			t.Errorf("a block in %q", bad)
		}
	}
	if err := os.WriteFile(path, []byte("before\n"+blockBegin+"old\n"+blockEnd+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := sample().rewrite(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "before\n" + blockBegin + sample().block() + blockEnd + "after\n"; err != nil || string(got) != want {
		t.Errorf("got\n%s\nwant\n%s, %v", got, want, err)
	}
}

// TestREADME: the README's figures are those of the committed report, and so is the plot beside it.
func TestREADME(t *testing.T) {
	report, err := readReports("results/bench.json")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	next, err := marked.Put(text, report.block())
	if err != nil || string(next) != string(text) {
		t.Errorf("README.md has other figures than results/bench.json; run make bench-readme FROM=scripts/bench/results/bench.json: %v", err)
	}
	drawn, err := os.ReadFile("results/bench.svg")
	if err != nil || string(drawn) != plot(report) {
		t.Errorf("results/bench.svg shows something else than results/bench.json: %v", err)
	}
	if broken := report.broken(); len(broken) > 0 {
		t.Errorf("a promise was broken: %q", broken)
	}
}

func TestAlike(t *testing.T) {
	var low, mixed, other []float64
	for i := range 10 {
		low = append(low, float64(i)/100)
		mixed = append(mixed, float64(2*i)/100)
		other = append(other, float64(2*i+1)/100)
	}
	if p := alike(mixed, other); p < 0.5 {
		t.Errorf("alike: %v", p)
	}
	high := make([]float64, 10)
	for i, v := range low {
		high[i] = v + 1
	}
	if p := alike(low, high); p > 0.001 {
		t.Errorf("not alike: %v", p)
	}
	if p := alike(high, low); p > 0.001 {
		t.Errorf("not alike, the other way round: %v", p)
	}
	if alike(nil, low) != 1 {
		t.Error("nothing is unlike something")
	}
}
