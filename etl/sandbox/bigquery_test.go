package sandbox_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/civil"
	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/sandbox"
	"github.com/duoflow/duoflow/etl/sandbox/sandboxtest"
	"github.com/duoflow/duoflow/etl/synth"
	"github.com/duoflow/duoflow/etl/tile"
)

const scale = 0.005

func bqClient(t *testing.T, s *sandbox.Sandbox) *bigquery.Client {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	c, err := bigquery.NewClient(t.Context(), "my-project", option.WithEndpoint(s.Endpoints().BigQuery), option.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// rows reads what an export left under a prefix.
func rows(t *testing.T, bucket *storage.BucketHandle, prefix string) (tile.Table, []string) {
	t.Helper()
	var table tile.Table
	var names []string
	for it := bucket.Objects(t.Context(), &storage.Query{Prefix: prefix}); ; {
		o, err := it.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, o.Name)
		r, err := bucket.Object(o.Name).Generation(o.Generation).ReadCompressed(true).NewReader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		report, err := nldn.Read(t.Context(), o.Name, r, nldn.Options{AllowEmpty: true}, &table, func(b nldn.Bad) error { t.Errorf("%+v", b); return nil })
		if err != nil || !report.Compressed {
			t.Fatalf("%s: %+v, %v", o.Name, report, err)
		}
	}
	return table, names
}

func made(t *testing.T, year int) tile.Table {
	t.Helper()
	var out tile.Table
	if _, err := synth.Generate(t.Context(), synth.Spec{Year: year, Scale: scale}, func(r tile.Row) error { out.Append(r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// reason is the first reason of an error of Google's API.
func reason(err error) string {
	var api *googleapi.Error
	if !errors.As(err, &api) || len(api.Errors) == 0 {
		return fmt.Sprint(err)
	}
	return fmt.Sprintf("%d %s", api.Code, api.Errors[0].Reason)
}

func done(t *testing.T, job *bigquery.Job, err error) *bigquery.JobStatus {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	status, err := job.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func extractor(c *bigquery.Client, table, uri, id string) *bigquery.Extractor {
	to := bigquery.NewGCSReference(uri)
	to.Compression, to.DestinationFormat = bigquery.Gzip, bigquery.CSV
	e := c.DatasetInProject("bigquery-public-data", sandbox.Dataset).Table(table).ExtractorTo(to)
	e.JobID = id
	return e
}

func TestSchemasOfThreeGenerations(t *testing.T) {
	tables := append(sandbox.Synthetic(synth.BigQuery1, 2017, 2018, scale), sandbox.Synthetic(synth.BigQuery2, 2019, 2020, scale)...)
	tables = append(tables, sandbox.Synthetic(synth.BigQuery3, 2018, 2019, scale)...)
	dataset := bqClient(t, sandboxtest.Start(t, sandbox.Config{Tables: tables})).DatasetInProject("bigquery-public-data", sandbox.Dataset)
	want := map[string]string{
		"lightning_2017":    "day DATE, number_of_strikes INTEGER, center_point GEOGRAPHY",
		"lightning_2018":    "day DATE, number_of_strikes INTEGER, center_point GEOGRAPHY",
		"lightning_2019":    "date DATE, number_of_strikes INTEGER, center_point_geom GEOGRAPHY",
		"lightning_2020":    "date DATE, number_of_strikes INTEGER, center_point_geom GEOGRAPHY",
		"lightning_strikes": "date TIMESTAMP, number_of_strikes INTEGER, center_point_geom GEOGRAPHY, source_url STRING, etl_timestamp TIMESTAMP",
	}
	it := dataset.Tables(t.Context())
	it.PageInfo().MaxSize = 2
	got := map[string]string{}
	for {
		table, err := it.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err := table.Metadata(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(m.Description, "synthetic") || m.Labels["origin"] != "synthetic" || m.NumRows == 0 || m.Location != "US" {
			t.Errorf("%s: %+v", table.TableID, m)
		}
		var fields []string
		for _, f := range m.Schema {
			fields = append(fields, f.Name+" "+string(f.Type))
		}
		got[table.TableID] = strings.Join(fields, ", ")
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if _, err := dataset.Table("lightning_1986").Metadata(t.Context()); reason(err) != "404 notFound" {
		t.Errorf("no such table: %v", err)
	}
	if m, err := dataset.Metadata(t.Context()); err != nil || m.Location != "US" {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestTableDataIsRead(t *testing.T) {
	s := sandboxtest.Start(t, sandbox.Config{Tables: append(sandbox.Synthetic(synth.BigQuery3, 2018, 2018, scale), sandbox.Synthetic(synth.BigQuery1, 2018, 2018, scale)...)})
	dataset, want := bqClient(t, s).DatasetInProject("any", sandbox.Dataset), made(t, 2018)
	for _, c := range []struct {
		table string
		value func(tile.Row) []bigquery.Value
	}{
		{"lightning_strikes", func(r tile.Row) []bigquery.Value {
			return []bigquery.Value{r.Day.Time(), int64(r.Strikes), string(synth.AppendPoint(nil, r)), synth.SourceURL, time.Date(2021, 6, 1, 0, 0, 0, 0, time.UTC)}
		}},
		{"lightning_2018", func(r tile.Row) []bigquery.Value {
			return []bigquery.Value{civil.DateOf(r.Day.Time()), int64(r.Strikes), string(synth.AppendPoint(nil, r))}
		}},
	} {
		it := dataset.Table(c.table).Read(t.Context())
		it.StartIndex = 5000
		for i := 5000; i < 5500; i++ {
			var got []bigquery.Value
			if err := it.Next(&got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.value(want.Row(i))) {
				t.Fatalf("%s, row %d: %v, want %v", c.table, i, got, want.Row(i))
			}
		}
		if it.TotalRows != uint64(want.Len()) {
			t.Errorf("%s has %d rows, want %d", c.table, it.TotalRows, want.Len())
		}
	}
}

func TestExtractJobs(t *testing.T) {
	s := sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}, ShardRows: 4000, Tables: sandbox.Synthetic(synth.BigQuery2, 2018, 2018, scale)})
	client, bucket, want := bqClient(t, s), gcsClient(t, s).Bucket("staging"), made(t, 2018)
	job, err := extractor(client, "lightning_2018", "gs://staging/e/2018-*.csv.gz", "fixed").Run(t.Context())
	status := done(t, job, err)
	if status.Err() != nil || !reflect.DeepEqual(status.Statistics.Details, &bigquery.ExtractStatistics{DestinationURIFileCounts: []int64{5}}) {
		t.Fatalf("%v, %+v", status.Err(), status.Statistics.Details)
	}
	got, names := rows(t, bucket, "e/")
	if len(names) != 5 || names[4] != "e/2018-000000000004.csv.gz" {
		t.Errorf("%v", names)
	}
	if got.Sorted() {
		t.Error("the rows come in order, which nobody may rely on")
	}
	if got.Sort(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got.Totals(), want.Totals())
	}

	if _, err := extractor(client, "lightning_2018", "gs://staging/e/2018-*.csv.gz", "fixed").Run(t.Context()); reason(err) != "409 duplicate" {
		t.Errorf("the same job again: %v", err)
	}
	again, err := client.JobFromID(t.Context(), "fixed")
	if err != nil || again.LastStatus().State != bigquery.Done {
		t.Errorf("adopted: %v, %v", again, err)
	}

	job, err = extractor(client, "lightning_2018", "gs://staging/one.csv.gz", "").Run(t.Context())
	if status := done(t, job, err); status.Err() != nil {
		t.Fatal(status.Err())
	}
	if got, names := rows(t, bucket, "one"); len(names) != 1 || got.Len() != want.Len() {
		t.Errorf("%v, %d rows", names, got.Len())
	}
	for uri, want := range map[string]string{"gs://nowhere/x-*": "notFound", "gs://staging/*/*": "invalid", "s3://staging/x": "invalid"} {
		job, err := extractor(client, "lightning_2018", uri, "").Run(t.Context())
		var e *bigquery.Error
		if status := done(t, job, err); !errors.As(status.Err(), &e) || e.Reason != want {
			t.Errorf("%s: %v", uri, status.Err())
		}
	}
	job, err = extractor(client, "lightning_2011", "gs://staging/x-*", "").Run(t.Context())
	var e *bigquery.Error
	if status := done(t, job, err); !errors.As(status.Err(), &e) || e.Reason != "notFound" {
		t.Errorf("no such table: %v", status.Err())
	}
}

func TestExportDataFiltersAndOrders(t *testing.T) {
	s := sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}, ShardRows: 7000, Tables: sandbox.Synthetic(synth.BigQuery3, 2017, 2019, scale)})
	client, bucket, want := bqClient(t, s), gcsClient(t, s).Bucket("staging"), made(t, 2018)
	const statement = "EXPORT DATA OPTIONS(uri='gs://staging/x/2018-*.csv.gz', format='CSV', compression='GZIP', header=true, overwrite=%v) AS\n" +
		"SELECT date, number_of_strikes, center_point_geom FROM `bigquery-public-data.noaa_lightning.lightning_strikes`\n" +
		"WHERE date >= TIMESTAMP('2018-01-01') AND date < TIMESTAMP('2019-01-01') ORDER BY date, ST_Y(center_point_geom), ST_X(center_point_geom)"
	q := client.Query(fmt.Sprintf(statement, true))
	q.JobID = "export_2018"
	job, err := q.Run(t.Context())
	status := done(t, job, err)
	if status.Err() != nil {
		t.Fatal(status.Err())
	}
	if d, ok := status.Statistics.Details.(*bigquery.QueryStatistics); !ok || d.StatementType != "EXPORT_DATA" || d.ExportDataStatistics.RowCount != int64(want.Len()) || d.ExportDataStatistics.FileCount != 3 {
		t.Errorf("%+v", status.Statistics.Details)
	}
	got, names := rows(t, bucket, "x/")
	if len(names) != 3 || !reflect.DeepEqual(got, want) {
		t.Errorf("%v: %+v, want %+v", names, got.Totals(), want.Totals())
	}
	if _, err := q.Run(t.Context()); reason(err) != "409 duplicate" {
		t.Errorf("the same job again: %v", err)
	}
	_, err = done2(t, client.Query(fmt.Sprintf(statement, false)))
	if err == nil || !strings.Contains(err.Error(), "overwrite") {
		t.Errorf("over files that are there: %v", err)
	}
	dear := client.Query(fmt.Sprintf(statement, true))
	dear.MaxBytesBilled = 1000
	if _, err := done2(t, dear); reason(err) != "400 bytesBilledLimitExceeded" {
		t.Errorf("more than may be billed: %v", err)
	}
	dry := client.Query(fmt.Sprintf(statement, true))
	dry.DryRun = true
	job, err = dry.Run(t.Context())
	if err != nil || job.LastStatus().Statistics.TotalBytesProcessed < 2*32*int64(want.Len()) {
		t.Errorf("dry run: %v, %v", job, err)
	}
}

// done2 runs a query to its end.
func done2(t *testing.T, q *bigquery.Query) (*bigquery.JobStatus, error) {
	t.Helper()
	job, err := q.Run(t.Context())
	if err != nil {
		return nil, err
	}
	return job.Wait(t.Context())
}

func TestOtherStatementsAreRefused(t *testing.T) {
	client := bqClient(t, sandboxtest.Start(t, sandbox.Config{Tables: append(sandbox.Synthetic(synth.BigQuery3, 2018, 2018, scale), sandbox.Synthetic(synth.BigQuery2, 2018, 2018, scale)...)}))
	const options = "EXPORT DATA OPTIONS(uri='gs://b/*.gz', format='CSV', compression='GZIP', header=true, overwrite=true) AS SELECT "
	const all = "FROM `noaa_lightning.lightning_strikes` WHERE date >= TIMESTAMP('2018-01-01') AND date < TIMESTAMP('2019-01-01')"
	for sql, want := range map[string]string{
		"SELECT 1":                        "400 invalidQuery",
		options + "* " + all + " LIMIT 3": "400 invalidQuery",
		options + "nothing " + all:        "400 invalidQuery",
		options + "* " + all + " ORDER BY date, center_point_geom":     "400 invalidQuery",
		options + "* " + all + " ORDER BY number_of_strikes":           "400 invalidQuery",
		options + "* " + strings.ReplaceAll(all, "TIMESTAMP", "DATE"):  "400 invalidQuery",
		options + "* " + strings.ReplaceAll(all, "strikes`", "2018`"):  "400 invalidQuery",
		options + "* " + strings.ReplaceAll(all, "strikes`", "1986`"):  "404 notFound",
		strings.ReplaceAll(options, "*.gz", "x.gz") + "* " + all:       "400 invalidQuery",
		strings.ReplaceAll(options, "'CSV'", "'PARQUET'") + "* " + all: "400 invalidQuery",
		strings.ReplaceAll(options, "header", "headline") + "* " + all: "400 invalidQuery",
	} {
		if _, err := client.Query(sql).Run(t.Context()); reason(err) != want {
			t.Errorf("%s: %v, want %s", sql, err, want)
		}
	}
}

func TestBigQueryFaults(t *testing.T) {
	faults := &sandbox.Faults{}
	s := sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}, Faults: faults, Tables: sandbox.Synthetic(synth.BigQuery2, 2018, 2018, scale)})
	client := bqClient(t, s)
	for _, c := range []struct {
		status int
		reason string
	}{{403, "quotaExceeded"}, {403, "billingNotEnabled"}, {403, "accessDenied"}, {404, "notFound"}} {
		faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "jobs.insert", Times: 1, Status: c.status, Reason: c.reason})
		if _, err := extractor(client, "lightning_2018", "gs://staging/x-*", "").Run(t.Context()); reason(err) != fmt.Sprint(c.status, " ", c.reason) {
			t.Errorf("%s: %v", c.reason, err)
		}
	}
	// The client tries these again by itself.
	for _, c := range []struct {
		status int
		reason string
	}{{403, "rateLimitExceeded"}, {503, "backendError"}} {
		hits := faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "jobs.insert", Times: 1, Status: c.status, Reason: c.reason})
		job, err := extractor(client, "lightning_2018", "gs://staging/x-*", "after_"+c.reason).Run(t.Context())
		if status := done(t, job, err); status.Err() != nil || hits() != 1 {
			t.Errorf("%s: %v, %d hits", c.reason, status.Err(), hits())
		}
	}
	// The job runs and nobody is told so; the client does not try again by itself.
	lost := faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "jobs.insert", Times: 1, Lose: true, Done: true})
	if _, err := extractor(client, "lightning_2018", "gs://staging/lost-*", "lost").Run(t.Context()); lost() != 1 || err == nil {
		t.Errorf("an answer was lost: %v, %d hits", err, lost())
	}
	if job, err := client.JobFromID(t.Context(), "lost"); err != nil || done(t, job, nil).Err() != nil {
		t.Errorf("the job whose answer was lost: %v", err)
	}
	faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Name: "fails", Reason: "quotaExceeded", Message: "too much"})
	job, err := extractor(client, "lightning_2018", "gs://staging/x-*", "it_fails").Run(t.Context())
	var e *bigquery.Error
	if status := done(t, job, err); !errors.As(status.Err(), &e) || e.Reason != "quotaExceeded" || e.Message != "too much" {
		t.Errorf("%v", status.Err())
	}
}

func TestASlowJobIsCancelled(t *testing.T) {
	faults := &sandbox.Faults{}
	s := sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}, Faults: faults, Tables: sandbox.Synthetic(synth.BigQuery2, 2018, 2018, scale)})
	client := bqClient(t, s)
	faults.Add(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Name: "slow", Delay: time.Hour})
	job, err := extractor(client, "lightning_2018", "gs://staging/x-*", "slow").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status, err := job.Status(t.Context()); err != nil || status.Done() {
		t.Errorf("%+v, %v", status, err)
	}
	if err := job.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	var e *bigquery.Error
	if status := done(t, job, nil); !errors.As(status.Err(), &e) || e.Reason != "stopped" {
		t.Errorf("%v", status.Err())
	}
	// One more, which the end of the sandbox must end.
	if _, err := extractor(client, "lightning_2018", "gs://staging/x-*", "slow_too").Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestTablesOfGivenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "real.csv")
	text := "date,number_of_strikes,center_point_geom\n2016-01-04,33,POINT(-83.1 21.1)\n2016-01-05,28,POINT(-77 22.1)\n2016-01-05,nonsense,POINT(-77 22.1)\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := sandboxtest.Start(t, sandbox.Config{GCSBuckets: []string{"staging"}})
	client := bqClient(t, s)
	if _, err := client.DatasetInProject("p", "d").Table("given").Metadata(t.Context()); reason(err) != "404 notFound" {
		t.Errorf("%v", err)
	}
	given := sandbox.Table{Dataset: sandbox.Dataset, Name: "given", Format: synth.BigQuery2, Files: []string{path}}
	if err := s.SetTables(t.Context(), []sandbox.Table{given}); err != nil {
		t.Fatal(err)
	}
	m, err := client.DatasetInProject("p", sandbox.Dataset).Table("given").Metadata(t.Context())
	if err != nil || m.NumRows != 2 || strings.Contains(m.Description, "synthetic") {
		t.Errorf("%+v, %v", m, err)
	}
	job, err := extractor(client, "given", "gs://staging/g-*.gz", "").Run(t.Context())
	if status := done(t, job, err); status.Err() != nil {
		t.Fatal(status.Err())
	}
	r, err := gcsClient(t, s).Bucket("staging").Object("g-000000000000.gz").NewReader(t.Context()) // GCS unpacks it
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || len(strings.Split(string(got), "\n")) != 4 || !strings.Contains(string(got), "2016-01-05,28,POINT(-77 22.1)\n") {
		t.Errorf("%q, %v", got, err)
	}
	given.Files = []string{path + ".gone"}
	if err := s.SetTables(t.Context(), []sandbox.Table{given}); err == nil {
		t.Error("a file that is not there was read")
	}
}
