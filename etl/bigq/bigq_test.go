package bigq

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/sandbox/sandboxtest"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, sandboxtest.Leftovers()...)
}

// scale makes years of some ten thousand rows.
const scale = 0.005

// scene is a sandbox with tables and a staging bucket.
type scene struct {
	t      *testing.T
	box    *sandbox.Sandbox
	faults *sandbox.Faults
	gcs    *objects.GCS
}

func newScene(t *testing.T, tables []sandbox.Table) *scene {
	t.Helper()
	s := &scene{t: t, faults: &sandbox.Faults{}}
	s.box = sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}, Tables: tables, ShardRows: 2000, Faults: s.faults})
	var err error
	if s.gcs, err = objects.OpenGCS(t.Context(), objects.GCSConfig{Endpoint: s.box.Endpoints().GCS}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.gcs.Close() })
	return s
}

// reader is of the table that the format is published in.
func (s *scene) reader(table string, change ...func(*Config)) *Reader {
	s.t.Helper()
	c := Config{Project: "mine", Dataset: "bigquery-public-data.noaa_lightning", Table: table, Endpoint: s.box.Endpoints().BigQuery, StagingBucket: "staging", StagingPrefix: "nldn"}
	for _, f := range change {
		f(&c)
	}
	r, err := Open(s.t.Context(), c, s.gcs)
	if err != nil {
		s.t.Fatal(err)
	}
	r.firstPoll = 20 * time.Millisecond
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}

func (s *scene) count(call string) func() int {
	return s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: call})
}

const (
	perYear = "lightning_%d"
	single  = "lightning_strikes"
)

func TestExtract(t *testing.T) {
	for name, c := range map[string]struct {
		format     synth.Format
		table      string
		chunk      tile.Chunk
		generation int
		whole      bool
	}{
		"first generation, a year":   {synth.BigQuery1, perYear, "2018", 1, true},
		"second generation, a month": {synth.BigQuery2, perYear, "2018-08", 2, false},
		"third generation, a year":   {synth.BigQuery3, single, "2018", 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, sandbox.Synthetic(c.format, 2017, 2018, scale))
			r := s.reader(c.table)
			table, err := r.Inspect(t.Context(), c.chunk)
			if err != nil || table.Schema.Generation != c.generation || table.Whole != c.whole || table.Rows == 0 || len(table.Schema.Extra) > 0 {
				t.Fatalf("%+v, %v", table, err)
			}
			var last Progress
			files, err := r.Extract(t.Context(), c.chunk, func(p Progress) { last = p })
			if err != nil {
				t.Fatal(err)
			}
			if last.State != "DONE" || last.Adopted || !strings.HasPrefix(last.JobID, "duoflow_lightning_"+string(c.chunk)) || !c.whole && last.Rows == 0 {
				t.Errorf("%+v", last)
			}
			totals, header := s.read(files, c.chunk)
			if want := expect(t, c.chunk); totals != want {
				t.Errorf("in the files: %+v, generated: %+v", totals, want)
			}
			if !strings.Contains(header, table.Schema.Point) {
				t.Errorf("header %q", header)
			}
			calls := s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery})
			again, err := r.Extract(t.Context(), c.chunk, nil)
			if err != nil || fmt.Sprint(again) != fmt.Sprint(files) || calls() != 2 {
				t.Errorf("nothing new: %v, %v, %d calls", again, err, calls())
			}
		})
	}
}

func TestTableThatChangedIsExtractedAgain(t *testing.T) {
	s := newScene(t, sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale))
	r := s.reader(perYear)
	first, err := r.Extract(t.Context(), "2018", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.box.SetTables(t.Context(), sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale*2)); err != nil {
		t.Fatal(err)
	}
	second, err := r.Extract(t.Context(), "2018", nil)
	if err != nil || second[0].Name == first[0].Name {
		t.Fatalf("%v, %v", second, err)
	}
}

func TestFilesThatWereCleanedUpAreMadeAgain(t *testing.T) {
	s := newScene(t, sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale))
	r := s.reader(perYear)
	first, err := r.Extract(t.Context(), "2018", nil)
	if err != nil || len(first) < 2 {
		t.Fatalf("%v, %v", first, err)
	}
	if err := s.gcs.Delete(t.Context(), first[1]); err != nil {
		t.Fatal(err)
	}
	second, err := r.Extract(t.Context(), "2018", nil)
	if err != nil || len(second) != len(first) || !strings.Contains(second[0].Name, "-2/") {
		t.Errorf("%v, %v", second, err)
	}
}

// Files lie where the job would write, and BigQuery knows of no job.
func TestFilesOfAJobThatIsForgottenAreLeftAlone(t *testing.T) {
	s := newScene(t, sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale))
	r := s.reader(perYear)
	table, err := r.Inspect(t.Context(), "2018")
	if err != nil {
		t.Fatal(err)
	}
	name := "nldn/2018/" + table.Content + "-1/part-000000000099.csv.gz"
	if err := s.box.Put(t.Context(), sandbox.Object{Bucket: "staging", Name: name, Content: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	files, err := r.Extract(t.Context(), "2018", nil)
	if err != nil || !strings.Contains(files[0].Name, "-2/") {
		t.Errorf("%v, %v", files, err)
	}
}

func TestRunningJobIsAdopted(t *testing.T) {
	s := newScene(t, sandbox.Synthetic(synth.BigQuery3, 2018, 2018, scale))
	release := make(chan struct{})
	s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Times: 1, Do: func() { <-release }})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.reader(single).Extract(ctx, "2018", func(p Progress) {
		if p.State == "RUNNING" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	inserts := s.count("jobs.insert")
	adopted := false
	files, err := s.reader(single).Extract(t.Context(), "2018", func(p Progress) {
		if p.State == "RUNNING" && !adopted {
			adopted = p.Adopted
			close(release)
		}
	})
	if err != nil || !adopted || inserts() != 0 || len(files) == 0 {
		t.Errorf("%v, %v, adopted %v, %d begun", files, err, adopted, inserts())
	}
}

// Both look before either begins.
func TestSecondToBeginAdopts(t *testing.T) {
	s := newScene(t, sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale))
	var other error
	s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "jobs.insert", Times: 1, Do: func() {
		_, other = s.reader(perYear).Extract(t.Context(), "2018", nil)
	}})
	adopted := false
	files, err := s.reader(perYear).Extract(t.Context(), "2018", func(p Progress) { adopted = p.Adopted })
	if err != nil || other != nil || !adopted || len(files) == 0 {
		t.Errorf("%v, %v, %v, adopted %v", files, err, other, adopted)
	}
}

func TestJobsThatFail(t *testing.T) {
	for reason, c := range map[string]struct {
		times, jobs int
		permanent   bool
		hint        string
	}{
		"backendError":      {1, 2, false, ""},
		"rateLimitExceeded": {2, 3, false, ""},
		"internalError":     {0, newAttempts, false, ""},
		"quotaExceeded":     {0, 1, true, "quota"},
		"notFound":          {0, 1, true, "staging bucket"},
	} {
		t.Run(reason, func(t *testing.T) {
			s := newScene(t, sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale))
			s.faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Times: c.times, Reason: reason})
			inserts := s.count("jobs.insert")
			r := s.reader(perYear)
			_, err := r.Extract(t.Context(), "2018", nil)
			var f *objects.Fault
			if c.times > 0 && err != nil || c.times == 0 && (!errors.As(err, &f) || f.Permanent != c.permanent || !strings.Contains(f.Hint, c.hint)) || inserts() != c.jobs {
				t.Errorf("%v, %d jobs", err, inserts())
			}
			s.faults.Clear()
			files, err := r.Extract(t.Context(), "2018", nil) // after it was mended
			if err != nil || !strings.Contains(files[0].Name, fmt.Sprintf("-%d/", max(c.jobs, 1)+btoi(c.times == 0))) {
				t.Errorf("after it: %v, %v", files, err)
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestCallsThatAreRefused(t *testing.T) {
	s := newScene(t, sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale))
	for _, c := range []struct {
		fault sandbox.Fault
		kind  string // "": it goes well in the end
		hint  string
	}{
		{sandbox.Fault{Call: "jobs.insert", Status: http.StatusForbidden, Reason: "billingNotEnabled"}, "permanent", "billing"},
		{sandbox.Fault{Call: "jobs.insert", Status: http.StatusForbidden, Reason: "quotaExceeded"}, "permanent", "quota"},
		{sandbox.Fault{Call: "jobs.insert", Status: http.StatusForbidden, Reason: "accessDenied"}, "permanent", "role"},
		{sandbox.Fault{Call: "tables.get", Status: http.StatusNotFound, Reason: "notFound"}, "permanent", "lightning_strikes"},
		{sandbox.Fault{Call: "tables.get", Status: http.StatusServiceUnavailable, Reason: "backendError"}, "transient", ""},
		{sandbox.Fault{Call: "jobs.insert", Status: http.StatusForbidden, Reason: "rateLimitExceeded"}, "transient", ""},
		{sandbox.Fault{Call: "jobs.insert", Status: http.StatusServiceUnavailable, Reason: "backendError", Times: 1}, "", ""},
		{sandbox.Fault{Call: "jobs.get", Status: http.StatusServiceUnavailable, Reason: "backendError", Times: 1}, "", ""},
		{sandbox.Fault{Call: "tables.get", Lose: true, Times: 1}, "", ""},
	} {
		t.Run(fmt.Sprint(c.fault.Call, c.fault.Reason, c.fault.Times), func(t *testing.T) {
			defer s.faults.Clear()
			c.fault.Server = sandbox.BigQuery
			r := s.reader(perYear, func(config *Config) { config.Pipeline = fmt.Sprint("p", time.Now().UnixNano()) })
			r.config.StagingPrefix = r.config.Pipeline
			if c.kind == "transient" {
				r.tries, r.callLimit = 2, 100*time.Millisecond // the client's second try comes after a second at the earliest
			}
			s.faults.Add(c.fault)
			files, err := r.Extract(t.Context(), "2018", nil)
			var f *objects.Fault
			switch {
			case c.kind == "" && (err != nil || len(files) == 0):
				t.Errorf("%v, %v", files, err)
			case c.kind != "" && (!errors.As(err, &f) || f.Permanent != (c.kind == "permanent") || !strings.Contains(f.Hint, c.hint)):
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := s.reader(perYear).Extract(t.Context(), "2011", nil); !errors.Is(err, objects.ErrNotFound) {
		t.Errorf("a year without a table: %v", err)
	}
	if _, err := s.reader(perYear).Extract(t.Context(), "20x1", nil); err == nil {
		t.Error("what is no chunk is extracted")
	}
}

func TestSchema(t *testing.T) {
	field := func(name string, kind bigquery.FieldType) *bigquery.FieldSchema {
		return &bigquery.FieldSchema{Name: name, Type: kind}
	}
	day, date, stamp := field("day", "DATE"), field("date", "DATE"), field("date", "TIMESTAMP")
	n, geom, text := field("number_of_strikes", "INTEGER"), field("center_point_geom", "GEOGRAPHY"), field("center_point", "STRING")
	for _, c := range []struct {
		found      bigquery.Schema
		generation int
		extra      int
	}{
		{bigquery.Schema{day, n, text}, 1, 0},
		{bigquery.Schema{day, n, field("center_point", "GEOGRAPHY")}, 1, 0},
		{bigquery.Schema{geom, date, n}, 2, 0},
		{bigquery.Schema{stamp, n, field("center_point_geom", "STRING"), field("polarity", "STRING")}, 2, 1},
		{bigquery.Schema{stamp, n, geom, field("source_url", "STRING"), field("etl_timestamp", "TIMESTAMP")}, 3, 0},
	} {
		if got, err := understand("t", c.found); err != nil || got.Generation != c.generation || len(got.Extra) != c.extra {
			t.Errorf("%s: %+v, %v", spell(c.found), got, err)
		}
	}
	for _, found := range []bigquery.Schema{
		nil, {n, geom}, {day, geom}, {day, n}, {day, date, n, geom}, {field("day", "STRING"), n, geom}, {day, field("number_of_strikes", "FLOAT"), geom},
		{day, n, &bigquery.FieldSchema{Name: "center_point", Type: "STRING", Repeated: true}},
	} {
		if _, err := understand("t", found); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), spell(found)) || !strings.Contains(err.Error(), "expected day or date") {
			t.Errorf("%s: %v", spell(found), err)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := Open(t.Context(), Config{Dataset: "a'b", Table: "x`y", StagingPrefix: "a b", Pipeline: "-", MaxBytesBilled: -1}, nil)
	for _, want := range []string{"project", "dataset", "table", "staging bucket", "staging prefix", "pipeline", "billed"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}
