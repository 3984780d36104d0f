package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// series is made-up samples of two hours, one in ten seconds, of one thing.
func series(name string, value func(hour float64) float64) []Sample {
	var all []Sample
	for second := 0.0; second <= 7200; second += 10 {
		all = append(all, Sample{Seconds: second, Values: map[string]float64{name: value(second / 3600)}})
	}
	return all
}

func judged(t *testing.T, samples []Sample) Verdict {
	t.Helper()
	r, err := judge(samples)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Series) != 1 || r.Series[0].Flat != (len(r.broken()) == 0) {
		t.Fatalf("%+v, broken %q", r, r.broken())
	}
	return r.Series[0]
}

// noise is the same at each hour, within -1..1.
func noise(hour float64) float64 { return math.Sin(hour * 1e4) }

func TestWhatIsFlat(t *testing.T) {
	for _, c := range []struct {
		what, name string
		value      func(hour float64) float64
	}{
		{"nothing changes", "a.roles", func(float64) float64 { return 12 }},
		{"it goes up and down", "a.rss_mb", func(h float64) float64 { return 30 + 8*noise(h) }},
		{"it warms up", "a.rss_mb", func(h float64) float64 { return 40 - 20*math.Exp(-10*h) }},
		{"a step down", "a.goroutines", func(h float64) float64 { return 90 - 40*math.Floor(h) }},
		{"a saw", "a.raft_kb", func(h float64) float64 { return 900 + 800*math.Mod(h*7, 1) }},
		{"a short peak", "a.sessions", func(h float64) float64 {
			if h > 1.7 && h < 1.8 {
				return 900
			}
			return 6
		}},
	} {
		if v := judged(t, series(c.name, c.value)); !v.Flat {
			t.Errorf("%s: %+v", c.what, v)
		}
	}
}

func TestWhatIsNot(t *testing.T) {
	for _, c := range []struct {
		what, name string
		value      func(hour float64) float64
		perHour    float64
	}{
		{"8 MB an hour", "a.rss_mb", func(h float64) float64 { return 30 + 8*h + noise(h) }, 8},
		{"a file a minute", "a.open_files", func(h float64) float64 { return 20 + 60*h }, 60},
		{"a goroutine for each failover", "a.goroutines", func(h float64) float64 { return 70 + math.Floor(180*h) }, 180},
		{"a role for each epoch", "metastore.roles", func(h float64) float64 { return 180 * h }, 180},
		{"a table that is never cut", "metastore.event_kb", func(h float64) float64 { return 1000 * h }, 1000},
		{"a step up that stays", "a.threads", func(h float64) float64 {
			if h > 1 {
				return 30
			}
			return 12
		}, math.NaN()},
		{"a directory for each life", "b.jobs_files", func(h float64) float64 { return 5 + 90*h }, 90},
		{"one more of what has no allowance", "a.something", func(h float64) float64 { return math.Floor(h) }, math.NaN()},
	} {
		v := judged(t, series(c.name, c.value))
		if v.Flat || math.Abs(v.PerHour-c.perHour) > 1 {
			t.Errorf("%s: %+v", c.what, v)
		}
	}
}

// TestSeriesThatCannotBeJudged: what was not seen is not called flat.
func TestSeriesThatCannotBeJudged(t *testing.T) {
	whole := func(float64) float64 { return 1 }
	for want, samples := range map[string][]Sample{
		"samples; want":     series("a.x", whole)[:8],
		"nothing in":        {{}, {Seconds: 1}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}},
		"of one time":       make([]Sample, 20),
		"a.x is NaN":        series("a.x", func(float64) float64 { return math.NaN() }),
		"in quarter 4":      append(series("a.x", whole)[:500], series("a.y", whole)[500:]...),
		"a.late has 0 samp": append(series("a.x", whole), Sample{Seconds: 7200, Values: map[string]float64{"a.late": 1}}),
	} {
		if r, err := judge(samples); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v; want %q", r, err, want)
		}
	}
}

// TestCheck: a file of samples is judged again as the run was, and its exit code says it.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, samples []Sample) string {
		t.Helper()
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for _, s := range samples {
			if err := note(file, s); err != nil {
				t.Fatal(err)
			}
		}
		return file.Name()
	}
	flat := write("flat", series("a.roles", func(float64) float64 { return 3 }))
	leak := write("leak", series("a.roles", func(h float64) float64 { return 99 * h }))
	torn := write("torn", series("a.roles", func(float64) float64 { return 3 }))
	if err := os.WriteFile(torn, []byte("{\"seconds\": 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"check " + flat, 0, "flat"},
		{"-o json check " + leak, 1, `"flat": false`},
		{"check " + leak, 1, "NOT FLAT"},
		{"check " + torn, 3, ""},
		{"check " + filepath.Join(dir, "none"), 3, ""},
		{"check", 2, ""}, {"chek x", 2, ""}, {"-hours 0", 2, ""}, {"-every 1ms", 2, ""}, {"-o xml", 2, ""},
	} {
		var out, errs strings.Builder
		if code := run(t.Context(), strings.Fields(c.args), &out, &errs); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit code %d, want %d: %s%s", c.args, code, c.code, out.String(), errs.String())
		}
		if c.code != 0 && errs.Len() == 0 {
			t.Errorf("%s: no reason", c.args)
		}
	}
}

func TestProcessOf(t *testing.T) {
	got := map[string]float64{}
	if err := processOf(os.Getpid(), "me", got); err != nil || got["me.rss_mb"] < 1 || got["me.open_files"] < 3 || got["me.threads"] < 1 {
		t.Errorf("%v, %v", got, err)
	}
	if err := processOf(1<<30, "nobody", got); !gone(err) {
		t.Errorf("%v", err)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "f"), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if files, kb, err := folder(dir); err != nil || files != 3 || kb < 90 {
		t.Errorf("%v files, %v kB, %v", files, kb, err)
	}
	if files, _, err := folder(filepath.Join(dir, "none")); err != nil || files != 0 {
		t.Errorf("%v files, %v", files, err)
	}
}

// TestEachActIsCounted, and no act but one restarts a daemon other than b and t.
func TestEachActIsCounted(t *testing.T) {
	events := []Event{{What: "freezes"}, {What: "switchovers"}, {What: "freezes", Stuck: "x"}}
	if got := count(events); got["freezes"] != 2 || got["switchovers"] != 1 {
		t.Errorf("%v", got)
	}
	var out strings.Builder
	r, err := judge(series("a.roles", func(float64) float64 { return 3 }))
	if err != nil {
		t.Fatal(err)
	}
	r.Events = count(events)
	if err := r.table(&out); err != nil || !strings.Contains(out.String(), "2 freezes, 1 switchovers") {
		t.Errorf("%s, %v", out.String(), err)
	}
}
