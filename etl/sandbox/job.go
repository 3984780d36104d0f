package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/duoflow/duoflow/etl/synth"
)

// job is one of BigQuery's, from insert on; they live as long as the sandbox.
type job struct {
	ref    bq.JobReference
	config bq.JobConfiguration
	cancel context.CancelFunc
	done   chan struct{} // closed at the end

	mu                      sync.Mutex
	state                   string // PENDING, RUNNING, DONE
	err                     *bq.ErrorProto
	created, started, ended time.Time
	files, rows, bytes      int64
}

// sharded is the logical size above which an extract needs a * in its URI.
const sharded = 1 << 30

// run works, then tells.
func (j *job) run(ctx context.Context, s *bigQuery) {
	defer close(j.done)
	defer j.cancel()
	j.mu.Lock()
	j.state, j.started = "RUNNING", time.Now()
	j.mu.Unlock()
	err := s.hinder(ctx, j)
	if err == nil && j.config.Extract != nil {
		err = j.extract(ctx, s)
	} else if err == nil {
		err = j.export(ctx, s)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.state, j.ended = "DONE", time.Now()
	var r *refused
	switch {
	case errors.As(err, &r):
		j.err = &bq.ErrorProto{Reason: r.reason, Message: r.message}
	case ctx.Err() != nil:
		j.err = &bq.ErrorProto{Reason: "stopped", Message: "Job execution was cancelled: User requested cancellation"}
	case err != nil:
		j.err = &bq.ErrorProto{Reason: "internalError", Message: err.Error()}
	}
	s.log.Info("bigquery job done", "id", j.ref.JobId, "files", j.files, "rows", j.rows, "took", j.ended.Sub(j.started), "err", err)
}

// hinder is the job's planned fault.
func (s *bigQuery) hinder(ctx context.Context, j *job) error {
	f := s.faults.hit(BigQuery, jobCall, j.ref.JobId)
	if f == nil {
		return nil
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.act()
	if f.Reason != "" {
		return &refused{f.Reason, f.message()}
	}
	return nil
}

func (j *job) extract(ctx context.Context, s *bigQuery) error {
	c := j.config.Extract
	uris := c.DestinationUris
	if len(uris) == 0 {
		uris = []string{c.DestinationUri}
	}
	switch {
	case c.SourceTable == nil:
		return &refused{"invalid", "Required parameter is missing: sourceTable"}
	case len(uris) != 1:
		return &refused{"invalid", "the sandbox extracts to one URI"}
	case !strings.EqualFold(c.DestinationFormat, "CSV") && c.DestinationFormat != "":
		return &refused{"invalid", "the sandbox extracts CSV only"}
	case !strings.EqualFold(c.Compression, "GZIP"):
		return &refused{"invalid", "the sandbox extracts with compression GZIP only"}
	}
	t, err := s.table(c.SourceTable.ProjectId, c.SourceTable.DatasetId, c.SourceTable.TableId)
	if err != nil {
		return err
	}
	out, err := newShards(s.gcs, uris[0])
	if err != nil {
		return err
	}
	out.columns, out.header = columnsOf(t.Format), c.PrintHeader == nil || *c.PrintHeader
	size := sizeOf(out.columns, t.rows)
	if out.limit = s.shardRows; !strings.Contains(out.name, "*") {
		if out.limit = 0; size > sharded {
			return &refused{"invalid", fmt.Sprintf("Table %s too large to be exported to a single file. Specify a uri including a * to shard export.", t.Name)}
		}
	}
	return j.write(ctx, t, out, scrambled(t.totals), nil, size)
}

func (j *job) export(ctx context.Context, s *bigQuery) error {
	e, t, columns, orders, err := s.understand(j.config.Query.Query)
	if err != nil {
		return err
	}
	size := sizeOf(columns, t.rows) // not partitioned: the filter reads every row
	if most := j.config.Query.MaximumBytesBilled; most > 0 && size > most {
		return &refused{"bytesBilledLimitExceeded", fmt.Sprintf("Query exceeded limit for bytes billed: %d. %d or higher required.", most, size)}
	}
	out, err := newShards(s.gcs, e.uri)
	if err != nil {
		return err
	}
	if !e.overwrite {
		if taken, err := out.taken(); err != nil || taken {
			return errors.Join(err, &refused{"invalid", "Option 'overwrite' is false and there are files at " + e.uri})
		}
	}
	out.columns, out.header, out.limit = columns, e.header, s.shardRows
	days := slices.DeleteFunc(slices.Clone(t.totals), func(d synth.DayTotal) bool { return d.Day < e.from || d.Day >= e.to })
	if len(orders) == 0 {
		days = scrambled(days)
	}
	return j.write(ctx, t, out, days, orders, size)
}

func (j *job) write(ctx context.Context, t *loaded, out *shards, days []synth.DayTotal, orders []order, bytes int64) error {
	err := out.write(ctx, t.open(), days, orders)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.files, j.rows, j.bytes = out.files, out.total, bytes
	return err
}

func sizeOf(columns []column, rows int64) int64 {
	row := int64(0)
	for _, c := range columns {
		row += c.bytes
	}
	return row * rows
}

// understand reads a statement and finds what it names.
func (s *bigQuery) understand(sql string) (*export, *loaded, []column, []order, error) {
	e, err := parseExport(sql)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	t, err := s.table(e.project, e.dataset, e.table)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	columns, orders, err := e.bind(t)
	return e, t, columns, orders, err
}

// resource is the job as the REST API shows it.
func (j *job) resource() *bq.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	ref, config := j.ref, j.config
	stats := &bq.JobStatistics{CreationTime: millis(j.created), StartTime: millis(j.started), EndTime: millis(j.ended), TotalBytesProcessed: j.bytes}
	if config.Extract != nil {
		config.JobType = "EXTRACT"
		stats.Extract = &bq.JobStatistics4{InputBytes: j.bytes, DestinationUriFileCounts: []int64{j.files}}
	} else {
		config.JobType = "QUERY"
		stats.Query = &bq.JobStatistics2{
			StatementType: "EXPORT_DATA", TotalBytesProcessed: j.bytes, TotalBytesBilled: j.bytes,
			ExportDataStatistics: &bq.ExportDataStatistics{FileCount: j.files, RowCount: j.rows},
		}
	}
	out := &bq.Job{
		Kind: "bigquery#job", Id: ref.ProjectId + ":" + ref.Location + "." + ref.JobId, JobReference: &ref, Configuration: &config,
		Statistics: stats, Status: &bq.JobStatus{State: j.state}, UserEmail: "sandbox@example.invalid",
	}
	if j.err != nil {
		out.Status.ErrorResult, out.Status.Errors = j.err, []*bq.ErrorProto{j.err}
	}
	return out
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// statusOf is the HTTP status that goes with a reason.
func statusOf(reason string) int {
	switch reason {
	case "notFound":
		return http.StatusNotFound
	case "duplicate":
		return http.StatusConflict
	case "accessDenied", "billingNotEnabled", "billingTierLimitExceeded", "quotaExceeded", "rateLimitExceeded", "jobRateLimitExceeded", "responseTooLarge":
		return http.StatusForbidden
	case "backendError":
		return http.StatusServiceUnavailable
	case "internalError":
		return http.StatusInternalServerError
	case "notImplemented":
		return http.StatusNotImplemented
	}
	return http.StatusBadRequest
}
