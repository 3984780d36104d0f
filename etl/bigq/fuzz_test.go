package bigq

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/duoflow/duoflow/etl/objects"
)

// spoken is a BigQuery that gives every call the same answer. After so many calls the caller's context is ended.
type spoken struct {
	status      int
	text        string
	calls, most int
	end         context.CancelFunc
}

func (s *spoken) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.calls++; s.calls >= s.most {
		s.end()
	}
	return &http.Response{StatusCode: s.status, Status: http.StatusText(s.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(s.text)), ContentLength: int64(len(s.text)), Request: r}, nil
}

// told is a reader of that BigQuery, which tries each call once.
func told(f *testing.F, answer *spoken) *Reader {
	f.Helper()
	c, err := Config{Project: "mine", Dataset: "public.noaa", Table: "lightning_%d", StagingBucket: "staging", Logger: slog.New(slog.DiscardHandler)}.complete()
	if err != nil {
		f.Fatal(err)
	}
	client, err := bigquery.NewClient(f.Context(), "mine", option.WithEndpoint("http://bigquery"), option.WithoutAuthentication(), option.WithHTTPClient(&http.Client{Transport: answer}))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = client.Close() })
	return &Reader{config: c, client: client, log: c.Logger, tries: 1, callLimit: time.Minute, firstPoll: time.Microsecond}
}

// final: the client does not ask again by itself.
func final(status int) bool {
	return status >= 200 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

// judged wants of an error that it names what was asked for.
func judged(t *testing.T, err error, about string) {
	t.Helper()
	var f *objects.Fault
	if !errors.As(err, &f) && !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), about) {
		t.Fatalf("%v does not name %s", err, about)
	}
}

// FuzzTable: what BigQuery says of a table is refused by name, or its columns are each one of the known or told as extra, and no word of
// the answer gets into the query but the names that are known.
func FuzzTable(f *testing.F) {
	f.Add(200, `{"etag":"e","numRows":"12","numBytes":"99","lastModifiedTime":"1700000000000","location":"US","schema":{"fields":[`+
		`{"name":"date","type":"TIMESTAMP"},{"name":"number_of_strikes","type":"INTEGER"},{"name":"center_point_geom","type":"GEOGRAPHY"},{"name":"source_url","type":"STRING"}]}}`)
	f.Add(200, `{"numRows":"18446744073709551615","numBytes":"-1","schema":{"fields":[{"name":"DAY","type":"DATE"},{"name":"number_of_strikes","type":"INT64"},{"name":"center_point","type":"STRING","mode":"REPEATED"}]}}`)
	f.Add(200, `{"numRows":"18446744073709551615","schema":{"fields":[{"name":"day","type":"DATE"},{"name":"number_of_strikes","type":"INTEGER"},{"name":"center_point","type":"STRING"}]}}`)
	f.Add(200, `{"schema":{"fields":[{"name":"x","type":"RECORD","fields":[{"name":"x","type":"RECORD"}]}]}}`)
	f.Add(404, `{"error":{"code":404,"message":"no","errors":[{"reason":"notFound"}]}}`)
	answer := &spoken{most: 20}
	r := told(f, answer)
	f.Fuzz(func(t *testing.T, status int, text string) {
		if !final(status) || strings.Contains(text, "Exceeded") || strings.Contains(text, "Error\"") {
			return // is asked again
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answer.status, answer.text, answer.calls, answer.end = status, text, 0, cancel
		table, err := r.Inspect(ctx, "2018-05")
		if err != nil {
			if ctx.Err() == nil {
				judged(t, err, "public.noaa.lightning_2018")
			}
			if table.Rows != 0 || table.Content != "" {
				t.Fatalf("%+v beside %v", table, err)
			}
			return
		}
		s := table.Schema
		if table.Rows < 0 || table.Bytes < 0 || len(table.Content) != 12 || s.Generation < 1 || s.Generation > 3 {
			t.Fatalf("%+v was taken", table)
		}
		known := func(name string, names ...string) bool { return slices.Contains(names, strings.ToLower(name)) }
		if !known(s.Day, "day", "date") || !known(s.Strikes, "number_of_strikes") || !known(s.Point, "center_point", "center_point_geom") ||
			s.DayType != "DATE" && s.DayType != "TIMESTAMP" {
			t.Fatalf("%+v was understood", s)
		}
		one := &run{reader: r, chunk: "2018-05", table: table, attempt: 1}
		if sql := one.sql(); !strings.Contains(sql, "FROM `public.noaa.lightning_2018` WHERE") || strings.Count(sql, "'") != 10 || strings.Count(sql, "`") != 2 {
			t.Fatalf("the query is %s", sql)
		}
	})
}

// FuzzJob: whatever BigQuery says of a job, it is adopted and done, or failed, or goes on; a failure names the job, and what is told of
// its progress are no negative figures.
func FuzzJob(f *testing.F) {
	f.Add(200, `{"id":"x","jobReference":{"projectId":"mine","jobId":"j","location":"US"},"configuration":{"extract":{"sourceTable":{}}},`+
		`"status":{"state":"DONE"},"statistics":{"extract":{"destinationUriFileCounts":["3"]}}}`)
	f.Add(200, `{"jobReference":{},"configuration":{"query":{"query":"x"}},"status":{"state":"DONE"},"statistics":{"totalBytesProcessed":"7","query":{"statementType":"EXPORT_DATA","exportDataStatistics":{"fileCount":"2","rowCount":"12"}}}}`)
	f.Add(200, `{"jobReference":{},"configuration":{"query":{}},"status":{"state":"DONE","errorResult":{"reason":"notFound","message":"no bucket"}}}`)
	f.Add(200, `{"jobReference":{},"configuration":{"query":{}},"status":{"state":"RUNNING"},"statistics":{"completionRatio":0.5}}`)
	f.Add(200, `{"jobReference":{},"configuration":{"query":{}}}`)
	f.Add(200, `{"jobReference":{},"configuration":{"query":{}},"status":{"state":"DONE"},"statistics":{"totalBytesProcessed":"-7","completionRatio":7,"query":{"exportDataStatistics":{"fileCount":"-2","rowCount":"-12"}}}}`)
	f.Add(403, `{"error":{"code":403,"errors":[{"reason":"accessDenied"}]}}`)
	answer := &spoken{most: 6}
	r := told(f, answer)
	f.Fuzz(func(t *testing.T, status int, text string) {
		if !final(status) || strings.Contains(text, "Exceeded") || strings.Contains(text, "Error\"") {
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answer.status, answer.text, answer.calls, answer.end = status, text, 0, cancel
		one := &run{reader: r, chunk: "2018", table: Table{Name: "p.d.t", Whole: true, Content: "c", Location: "US"}, attempt: 1}
		one.progress = func(p Progress) {
			if p.Rows < 0 || p.Bytes < 0 || !(p.Ratio >= 0 && p.Ratio <= 1) || p.JobID != one.id() {
				t.Fatalf("%+v was told", p)
			}
		}
		job, err := one.find(ctx)
		if err != nil {
			if ctx.Err() == nil {
				judged(t, err, one.id())
			}
			return
		}
		one.adopt(job)
		last, err := one.wait(ctx, job)
		if err != nil {
			if ctx.Err() == nil {
				judged(t, err, one.id())
			}
			return
		}
		if !last.Done() || one.failed || filesOf(last) < 0 {
			t.Fatalf("%+v, failed %v, %d files", last, one.failed, filesOf(last))
		}
	})
}
