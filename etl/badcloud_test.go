package etl_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/synth"
)

// These tests are the rows of "bad input" in DESIGN.md in which a cloud misbehaves.

const (
	partSize = 5 << 20
	hasty    = "transfer: {tries: 2}" // what is not going to pass is not waited for
)

// TestS3Misbehaves: what passes is waited out and sent again; what does not costs the chunk, and the next run goes on.
func TestS3Misbehaves(t *testing.T) {
	w := newWorld(t, nil)
	whole, parts := padded(tiles(1000), 100), padded(tiles(1000), 2*partSize+1<<20)
	for _, one := range []struct {
		name    string
		content []byte
		fault   sandbox.Fault
		calls   int           // of this kind that a good end takes
		least   time.Duration // that it takes
		refusal *refusal
	}{
		{"a part's checksum is refused once", parts, sandbox.Fault{Call: "UploadPart", Skip: 1, Times: 1, Status: http.StatusBadRequest, Reason: "BadDigest"}, 4, 0, nil},
		{"an object's checksum is refused once", whole, sandbox.Fault{Call: "PutObject", Name: "/raw/", Times: 1, Status: http.StatusBadRequest, Reason: "BadDigest"}, 2, 0, nil},
		{"every checksum is refused", whole, sandbox.Fault{Call: "PutObject", Name: "/raw/", Status: http.StatusBadRequest, Reason: "BadDigest"}, 0, 0,
			&refusal{etl.ExitFailed, etl.StepCopy, []string{"put s3://lake/", "raw/2018/", "wrong checksum", "memory and network"}}},
		{"the connection is lost within a part", parts, sandbox.Fault{Call: "UploadPart", Skip: 1, Times: 1, Lose: true, After: 1 << 20}, 4, 0, nil},
		{"the connection is lost within every part", parts, sandbox.Fault{Call: "UploadPart", Skip: 1, Lose: true, After: 1 << 20}, 0, 0,
			&refusal{etl.ExitFailed, etl.StepCopy, []string{"upload part 2 of s3://lake/", "raw/2018/"}}},
		{"slow down, with Retry-After", parts, sandbox.Fault{Call: "UploadPart", Times: 1, Status: http.StatusServiceUnavailable, Reason: "SlowDown", RetryAfter: time.Second}, 4, time.Second, nil},
		{"slow down for ever", parts, sandbox.Fault{Call: "UploadPart", Status: http.StatusServiceUnavailable, Reason: "SlowDown"}, 0, 0,
			&refusal{etl.ExitFailed, etl.StepCopy, []string{"upload part 1 of s3://lake/", "SlowDown"}}},
		{"the bucket is full", whole, sandbox.Fault{Call: "PutObject", Name: "/raw/", Status: http.StatusForbidden, Reason: "QuotaExceeded"}, 0, 0,
			&refusal{etl.ExitFailed, etl.StepCopy, []string{"put s3://lake/", "QuotaExceeded", "the bucket is full"}}},
		{"the key may not write", whole, sandbox.Fault{Call: "PutObject", Name: "/raw/", Status: http.StatusForbidden, Reason: "AccessDenied"}, 0, 0,
			&refusal{etl.ExitFailed, etl.StepCopy, []string{"put s3://lake/", "AccessDenied", "may the key list, read and write the bucket?"}}},
	} {
		t.Run(one.name, func(t *testing.T) {
			pipeline := "s3_" + strings.Map(letters, one.name)
			s := w.scene(t, pipeline, "tiles-{chunk}.csv", hasty)
			s.put(s.name, padded(tiles(500), 0))
			s.good(etl.Selection{})
			s.put(s.name, one.content)
			one.fault.Server, one.fault.Name = sandbox.S3, "/"+pipeline+one.fault.Name
			hits := w.faults.Add(one.fault)
			calls := w.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: one.fault.Call, Name: one.fault.Name}) // those that are not hit
			began := time.Now()
			if one.refusal != nil {
				s.refused(*one.refusal)
				w.faults.Clear()
			}
			s.good(etl.Selection{})
			if took := time.Since(began); took < one.least {
				t.Errorf("took %v, and S3 had asked for %v of patience", took, one.least)
			}
			if n := hits() + calls(); hits() == 0 || one.calls > 0 && n != one.calls {
				t.Errorf("%d calls, %d of them hit; want %d", n, hits(), one.calls)
			}
			w.faults.Clear()
			if s.loadedRows() != 1000 {
				t.Errorf("%d rows are loaded, want 1000", s.loadedRows())
			}
			if n, err := s.p.GC(t.Context(), 0); err != nil || n != 0 {
				t.Errorf("%d uploads were left behind, %v", n, err)
			}
		})
	}
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r
	}
	return '_'
}

// TestSourceChangesDuringTheCopy: replaced once, the new object is loaded, whole; replaced again and again, or taken away, the chunk
// fails and what was loaded stays.
func TestSourceChangesDuringTheCopy(t *testing.T) {
	w := newWorld(t, nil)
	for name, one := range map[string]struct {
		after   int64
		times   int
		refusal *refusal
	}{
		"once_at_the_begin":      {0, 1, nil},
		"once_in_the_middle":     {7 << 20, 1, nil},
		"each_time":              {7 << 20, 0, &refusal{etl.ExitFailed, etl.StepCopy, []string{"source is gone in this generation, or was replaced", "run again when it is settled"}}},
		"each_time_at_the_begin": {0, 0, &refusal{etl.ExitFailed, etl.StepCopy, []string{"source is gone in this generation, or was replaced", "run again when it is settled"}}},
	} {
		// In the middle the connection is lost, too: as long as it is read, what was opened is the old object, whole.
		t.Run(name, func(t *testing.T) {
			s := w.scene(t, "gcs_"+name, "tiles-{chunk}.csv", hasty)
			s.put(s.name, padded(tiles(500), 0))
			s.good(etl.Selection{})
			s.put(s.name, padded(tiles(600), 3*partSize))
			n := 700
			hits := w.faults.Add(sandbox.Fault{Server: sandbox.GCS, Call: "read", Name: "gcs_" + name + "/", Times: one.times, After: one.after, Lose: one.after > 0, Do: func() {
				s.put(s.name, padded(tiles(n), 3*partSize))
				n++
			}})
			if one.refusal != nil {
				s.refused(*one.refusal)
				w.faults.Clear()
				s.put(s.name, padded(tiles(700), 3*partSize))
			}
			s.good(etl.Selection{})
			if hits() == 0 || s.loadedRows() != 700 {
				t.Errorf("replaced %d times; %d rows are loaded, want the 700 of the new object", hits(), s.loadedRows())
			}
			w.faults.Clear()
			if n, err := s.p.GC(t.Context(), 0); err != nil || n != 0 {
				t.Errorf("%d uploads of what was replaced were left behind, %v", n, err)
			}
			if report, err := s.run(etl.Selection{}); err != nil || report.Unchanged != 1 {
				t.Errorf("again: %+v, %v; want nothing new", report, err)
			}
		})
	}
}

// TestGCSRefuses: what passes is waited for; what is for good costs the chunk, at the plan and at the copy.
func TestGCSRefuses(t *testing.T) {
	w := newWorld(t, nil)
	s := w.scene(t, "gcs_refuses", packedName, "")
	n := 100
	s.put(s.name, zip(t, ncei(tiles(n))))
	s.good(etl.Selection{})
	for _, one := range []struct {
		fault sandbox.Fault
		step  string // none: it passes
		words []string
	}{
		{sandbox.Fault{Call: "list", Times: 1, Status: 429, Reason: "rateLimitExceeded", RetryAfter: time.Second}, "", nil},
		{sandbox.Fault{Call: "list", Times: 1, Status: 503, Reason: "backendError"}, "", nil},
		{sandbox.Fault{Call: "read", Times: 1, Status: 503, Reason: "backendError"}, "", nil},
		{sandbox.Fault{Call: "list", Status: 403, Reason: "accountDisabled"}, etl.StepExtract, []string{"list gs://staging/gcs_refuses/", "accountDisabled", "the billing account is disabled"}},
		{sandbox.Fault{Call: "read", Status: 403}, etl.StepCopy, []string{"read gs://staging/gcs_refuses/", "403", "does the service account have the role for it?"}},
	} {
		t.Run(fmt.Sprintf("%s %d", one.fault.Call, one.fault.Status), func(t *testing.T) {
			s.t = t
			n += 10
			s.put(s.name, zip(t, ncei(tiles(n))))
			one.fault.Server = sandbox.GCS
			hits, began := w.faults.Add(one.fault), time.Now()
			if one.step != "" {
				s.refused(refusal{etl.ExitFailed, one.step, one.words})
				w.faults.Clear()
			}
			s.good(etl.Selection{})
			if took := time.Since(began); hits() == 0 || took < one.fault.RetryAfter || s.loadedRows() != int64(n) {
				t.Errorf("hit %d times, took %v, %d rows are loaded, want %d", hits(), took, s.loadedRows(), n)
			}
			w.faults.Clear()
		})
	}
	s.t = t
}

// TestSourceIsMissing costs the chunk and not the run; the plan says so too.
func TestSourceIsMissing(t *testing.T) {
	w := newWorld(t, nil)
	s := w.scene(t, "missing", packedName, "")
	s.p.Close()
	s.open(`source: {kind: gcs, objects: "missing/tiles-{chunk}.csv.gz", window: {from: 2017, to: 2018}}`, "")
	s.put(s.name, zip(t, ncei(tiles(100))))
	words := []string{"not found", "gs://staging/missing/tiles-2017.csv.gz", "does source.objects name it?"}
	plan, err := s.p.Plan(t.Context(), etl.Selection{})
	if err != nil || len(plan.Chunks) != 2 || plan.Chunks[0].State != etl.ChunkUnknown || plan.Chunks[1].State != etl.ChunkNew {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	report, err := s.run(etl.Selection{})
	if etl.ExitCode(err) != etl.ExitPartial || report.Done != 1 || report.Failed != 1 || s.loadedRows() != 100 {
		t.Errorf("%+v, %v: want 2018 done and code %d", report, err, etl.ExitPartial)
	}
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(s.ledger("2017", etl.StepExtract), word) || !strings.Contains(plan.Chunks[0].Why, word) {
			t.Errorf("%q is not in all of: %v; %s; %s", word, err, s.ledger("2017", etl.StepExtract), plan.Chunks[0].Why)
		}
	}
	if _, err := s.run(etl.Selection{Only: etl.StepLoad}); err == nil || !strings.Contains(err.Error(), words[1]) {
		t.Errorf("a later step of a chunk without a source: %v", err)
	}
	s.put("missing/tiles-2017.csv.gz", zip(t, nceiHeader+"20170701,-80.1,30.0,1\n"))
	if report, err = s.run(etl.Selection{}); err != nil || report.Done != 1 || report.Unchanged != 1 {
		t.Errorf("when it is there: %+v, %v", report, err)
	}
}

// TestBigQueryRefuses: what is for good costs the chunk and says what the operator can do; what passes is waited for.
func TestBigQueryRefuses(t *testing.T) {
	version := func(seed uint64) []sandbox.Table {
		tables := sandbox.Synthetic(synth.BigQuery2, 2018, 2018, 0.001)
		tables[0].Seed = seed
		return tables
	}
	w := newWorld(t, version(1))
	s := &scene{world: w, pipeline: "bq"}
	s.open(fmt.Sprintf(`source: {kind: bigquery, project: payer, table: bigquery-public-data.%s.lightning_%%d, endpoint: %q, window: {from: 2018, to: 2018}}`,
		sandbox.Dataset, w.cloud.Endpoints().BigQuery), hasty)
	last := s.good(etl.Selection{})
	seed := uint64(1)
	for _, one := range []struct {
		fault sandbox.Fault
		words []string // none: it passes
	}{
		{sandbox.Fault{Call: "tables.get", Status: 404, Reason: "notFound", Message: "Not found: Table bigquery-public-data:noaa_lightning.lightning_2018"},
			[]string{"look at table bigquery-public-data.noaa_lightning.lightning_2018", "not found", "check dataset and table", "lightning_strikes"}},
		{sandbox.Fault{Call: "tables.get", Status: 403, Reason: "accessDenied"}, []string{"look at table", "accessDenied", "does the service account have the role for it?"}},
		{sandbox.Fault{Call: "jobs.insert", Status: 403, Reason: "quotaExceeded"}, []string{"begin job duoflow_bq_2018_", "quotaExceeded", "wait for the next day, or ask for more"}},
		{sandbox.Fault{Call: "jobs.insert", Status: 403, Reason: "billingNotEnabled"}, []string{"begin job duoflow_bq_2018_", "billingNotEnabled", "enable billing for the project"}},
		{sandbox.Fault{Call: "job", Reason: "quotaExceeded"}, []string{"job duoflow_bq_2018_", "quotaExceeded", "wait for the next day, or ask for more"}},
		{sandbox.Fault{Call: "job", Reason: "billingNotEnabled"}, []string{"job duoflow_bq_2018_", "billingNotEnabled", "enable billing for the project"}},
		{sandbox.Fault{Call: "job", Reason: "notFound", Message: "Not found: Bucket staging"}, []string{"job duoflow_bq_2018_", "Not found: Bucket", "make the staging bucket, in US"}},
		{sandbox.Fault{Call: "jobs.insert", Times: 1, Status: 403, Reason: "rateLimitExceeded"}, nil},
		{sandbox.Fault{Call: "jobs.insert", Times: 1, Status: 503, Reason: "backendError"}, nil},
		{sandbox.Fault{Call: "tables.get", Times: 1, Status: 503, Reason: "backendError"}, nil},
		{sandbox.Fault{Call: "jobs.insert", Times: 1, Lose: true, Done: true}, nil}, // begun, but nobody was told: 409, and it is adopted
		{sandbox.Fault{Call: "job", Times: 1, Reason: "backendError"}, nil},
	} {
		t.Run(fmt.Sprintf("%s %s", one.fault.Call, one.fault.Reason), func(t *testing.T) {
			s.t = t
			seed++
			if err := w.cloud.SetTables(t.Context(), version(seed)); err != nil {
				t.Fatal(err)
			}
			one.fault.Server = sandbox.BigQuery
			hits := w.faults.Add(one.fault)
			if one.words != nil {
				s.refused(refusal{etl.ExitFailed, etl.StepExtract, one.words})
				w.faults.Clear()
			}
			now := s.good(etl.Selection{})
			if hits() == 0 || now == last {
				t.Errorf("hit %d times; tables hash to %s, before to %s, of other rows", hits(), now, last)
			}
			last = now
			w.faults.Clear()
		})
	}
	s.t = t
	if got := query[bool](w, "SELECT bool_and(synthetic) FROM bq.chunk"); !got {
		t.Error("the table's description says that it is synthetic, and the warehouse does not")
	}
}

// TestSyntheticIsWhatTheSourceSays: metadata of an object, or a table's description; nothing is guessed of its contents.
func TestSyntheticIsWhatTheSourceSays(t *testing.T) {
	w := newWorld(t, nil)
	s := w.scene(t, "says", "tiles-{chunk}-*.csv.gz", "")
	comment := func() string { return query[string](w, "SELECT obj_description('says.day'::regclass)") }
	put := func(metadata map[string]string) {
		f := synth.File{Spec: synth.Spec{Year: 2018, Scale: 0.001}, Format: synth.NCEI}
		var text strings.Builder
		if _, err := f.Write(t.Context(), &text); err != nil {
			t.Fatal(err)
		}
		object := sandbox.Object{Bucket: stagingBucket, Name: "says/tiles-2018-1.csv.gz", Content: []byte(text.String()), Metadata: metadata}
		if err := w.cloud.Put(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []struct {
		metadata map[string]string
		want     bool
	}{
		{nil, false}, {map[string]string{"synthetic": "true"}, true}, {map[string]string{"synthetic": "false"}, false}, {map[string]string{"synthetic": "TRUE"}, true},
	} {
		put(one.metadata)
		s.good(etl.Selection{})
		status, err := etl.Look(t.Context(), s.config, etl.Options{Env: func(name string) string { return w.env[name] }})
		if err != nil || status.Synthetic != one.want || status.Chunks[0].Synthetic != one.want {
			t.Errorf("metadata %v: status %+v, %v", one.metadata, status, err)
		}
		if says := strings.Contains(comment(), "synthetic"); says != one.want {
			t.Errorf("metadata %v: the table's comment is %q", one.metadata, comment())
		}
		if plan, err := s.p.Plan(t.Context(), etl.Selection{}); err != nil || plan.Work != 0 || plan.Synthetic != one.want {
			t.Errorf("metadata %v: plan %+v, %v", one.metadata, plan, err)
		}
	}
}
