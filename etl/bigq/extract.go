package bigq

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"

	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
)

// Progress is what is known of a job.
type Progress struct {
	JobID   string
	State   string  // PENDING, RUNNING, DONE; "" = just begun
	Adopted bool    // it was not begun by this call
	Ratio   float64 // of the work, 0..1; 0 = BigQuery does not say
	Rows    int64   // written; 0 = BigQuery does not say: of an extract never, of a query at its end
	Bytes   int64   // processed
}

// Attempts: a job's id names one attempt, and a job that failed keeps its id. New ones are made of failed ones at most so often in
// one call, and at most so often ever.
const (
	newAttempts = 3
	allAttempts = 99
)

// Extract has the chunk written into the staging bucket and returns the files, pinned, in the order of their names. A job that
// runs is waited for, whoever began it; one that is done is not done again while the table is the same and the files are there:
// then it costs three calls. When the context ends, the job goes on, to be adopted.
//
// progress may be nil. Errors: objects.Fault, ErrSchema.
func (r *Reader) Extract(ctx context.Context, chunk tile.Chunk, progress func(Progress)) ([]objects.Source, error) {
	table, err := r.Inspect(ctx, chunk)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	begun := 0
	for attempt := 1; attempt <= allAttempts; attempt++ {
		run := &run{reader: r, chunk: chunk, table: table, attempt: attempt, progress: progress}
		sources, err := run.do(ctx)
		if err == nil && sources != nil {
			return sources, nil
		}
		if !run.old {
			begun++
		}
		switch {
		case err == nil || run.old && run.failed: // an earlier call's: its files are gone, or it failed
			continue
		case !run.failed || objects.Permanent(err) || begun >= newAttempts:
			return nil, err
		}
		r.log.Warn("job is tried again", "id", run.id(), "err", err)
		if err := pause(ctx, time.Duration(begun)*4*r.firstPoll); err != nil {
			return nil, err
		}
	}
	return nil, &objects.Fault{Op: "extract " + table.Name, Permanent: true, Hint: "delete the failed jobs, or wait half a year", Err: fmt.Errorf("%d jobs of this table and chunk have failed", allAttempts)}
}

// run is one attempt.
type run struct {
	reader   *Reader
	chunk    tile.Chunk
	table    Table
	attempt  int
	progress func(Progress)

	adopted bool // somebody else's job
	old     bool // it was done before this call came
	failed  bool // it is a job that failed, not a call
}

func (r *run) id() string {
	return fmt.Sprintf("duoflow_%s_%s_%s_%d", r.reader.config.Pipeline, r.chunk, r.table.Content, r.attempt)
}

// folder is the attempt's own: what a failed one has left is not mixed with it.
func (r *run) folder() string {
	return path.Join(r.reader.config.StagingPrefix, string(r.chunk), fmt.Sprintf("%s-%d", r.table.Content, r.attempt)) + "/"
}

func (r *run) uri() string {
	return "gs://" + r.reader.config.StagingBucket + "/" + r.folder() + "part-*.csv.gz"
}

// do finds or begins the job, waits for it, and lists its files; nil if it is an old one whose files are not there any more.
func (r *run) do(ctx context.Context) ([]objects.Source, error) {
	job, err := r.job(ctx)
	if err != nil || job == nil {
		return nil, err
	}
	status, err := r.wait(ctx, job)
	if err != nil {
		return nil, err
	}
	sources, err := r.reader.gcs.List(ctx, r.reader.config.StagingBucket, r.folder())
	if err != nil {
		return nil, err
	}
	if want := filesOf(status); len(sources) > 0 && (want == 0 || int64(len(sources)) == want) {
		return sources, nil
	} else if !r.old {
		return nil, &objects.Fault{Op: "list what job " + r.id() + " wrote", Permanent: true, Hint: "does somebody clear the staging bucket up?", Err: fmt.Errorf("%d files, not %d", len(sources), want)}
	}
	return nil, nil
}

// job adopts the attempt's job, or begins it. It is nil if there are files of a job that nobody knows any more (BigQuery forgets
// them after half a year): a new one would be mixed with them.
func (r *run) job(ctx context.Context) (*bigquery.Job, error) {
	job, err := r.find(ctx)
	if errors.Is(err, objects.ErrNotFound) {
		left, listed := r.reader.gcs.List(ctx, r.reader.config.StagingBucket, r.folder())
		if listed != nil {
			return nil, listed
		}
		if len(left) > 0 { // or it was begun since
			job, err = r.find(ctx)
			r.old = errors.Is(err, objects.ErrNotFound)
		}
	}
	switch {
	case r.old:
		return nil, nil
	case err == nil:
		r.adopt(job)
		return job, nil
	case !errors.Is(err, objects.ErrNotFound):
		return nil, err
	}
	err = r.reader.call(ctx, "begin job "+r.id(), func(ctx context.Context) (err error) {
		job, err = r.begin(ctx)
		return err
	})
	var api *googleapi.Error
	if errors.As(err, &api) && api.Code == http.StatusConflict {
		r.adopted = true // somebody was quicker, or the answer to our own first try was lost
		return r.find(ctx)
	}
	if err == nil {
		r.reader.log.Info("job begun", "id", r.id(), "table", r.table.Name, "billed", !r.table.Whole)
	}
	return job, err
}

// adopt notes whether the job was done before this call came. A server may leave its state out.
func (r *run) adopt(job *bigquery.Job) {
	r.adopted = true
	if status := job.LastStatus(); status != nil {
		r.old = status.Done()
	}
}

func (r *run) find(ctx context.Context) (job *bigquery.Job, err error) {
	err = r.reader.call(ctx, "look for job "+r.id(), func(ctx context.Context) (err error) {
		job, err = r.reader.client.JobFromIDLocation(ctx, r.id(), r.table.Location)
		return err
	})
	return job, err
}

func (r *run) begin(ctx context.Context) (*bigquery.Job, error) {
	labels := map[string]string{"app": "duoflow", "chunk": string(r.chunk)}
	id := bigquery.JobIDConfig{JobID: r.id(), Location: r.table.Location}
	if !r.table.Whole {
		q := r.reader.client.Query(r.sql())
		q.JobIDConfig, q.Labels, q.MaxBytesBilled = id, labels, r.reader.config.MaxBytesBilled
		return q.Run(ctx)
	}
	to := bigquery.NewGCSReference(r.uri())
	to.DestinationFormat, to.Compression = bigquery.CSV, bigquery.Gzip
	handle, _ := r.reader.handle(r.chunk)
	e := handle.ExtractorTo(to)
	e.JobIDConfig, e.Labels = id, labels
	return e.Run(ctx)
}

// sql is the chunk as a query: three columns, a range of days. Of columns that are GEOGRAPHY nothing can be ordered by; the
// day is enough, ingest sorts.
func (r *run) sql() string {
	s, after := r.table.Schema, r.chunk.Last()+1
	return fmt.Sprintf("EXPORT DATA OPTIONS(uri='%s', format='CSV', compression='GZIP', header=true, overwrite=true) AS "+
		"SELECT %s, %s, %s FROM `%s` WHERE %[2]s >= %[6]s('%[7]s') AND %[2]s < %[6]s('%[8]s') ORDER BY %[2]s",
		r.uri(), s.Day, s.Strikes, s.Point, r.table.Name, s.DayType, r.chunk.First(), after)
}

// wait polls until the job is done.
func (r *run) wait(ctx context.Context, job *bigquery.Job) (*bigquery.JobStatus, error) {
	every := r.reader.firstPoll
	for status := job.LastStatus(); ; {
		if status != nil {
			r.tell(status)
			if status.Done() {
				return status, r.outcome(ctx, status)
			}
		}
		if err := pause(ctx, every); err != nil {
			return nil, err
		}
		every = min(every*3/2, 20*r.reader.firstPoll)
		err := r.reader.call(ctx, "look at job "+r.id(), func(ctx context.Context) (err error) {
			status, err = job.Status(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
}

func (r *run) outcome(ctx context.Context, status *bigquery.JobStatus) error {
	err := status.Err()
	if err == nil {
		return nil
	}
	r.failed = true
	var e *bigquery.Error
	if errors.As(err, &e) { // in the words of the API, which are known
		api := &googleapi.Error{Code: http.StatusBadRequest, Message: e.Message, Errors: []googleapi.ErrorItem{{Reason: e.Reason, Message: e.Message}}}
		if e.Reason == "notFound" {
			api.Code = http.StatusNotFound
		}
		err = api
	}
	err = objects.Judge(ctx, "job "+r.id(), err)
	return hint(err, objects.ErrNotFound, "make the staging bucket, in "+r.table.Location)
}

// states are spelled as the API does.
var states = map[bigquery.State]string{bigquery.Pending: "PENDING", bigquery.Running: "RUNNING", bigquery.Done: "DONE"}

func (r *run) tell(status *bigquery.JobStatus) {
	p := Progress{JobID: r.id(), State: states[status.State], Adopted: r.adopted}
	if s := status.Statistics; s != nil {
		p.Bytes, p.Ratio = max(0, s.TotalBytesProcessed), min(1, max(0, s.CompletionRatio))
		if q, ok := s.Details.(*bigquery.QueryStatistics); ok && q.ExportDataStatistics != nil {
			p.Rows = max(0, q.ExportDataStatistics.RowCount)
		}
	}
	r.progress(p)
}

// filesOf is how many files the job says it wrote; 0 = it does not say.
func filesOf(status *bigquery.JobStatus) (n int64) {
	if status.Statistics == nil {
		return 0
	}
	switch d := status.Statistics.Details.(type) {
	case *bigquery.QueryStatistics:
		if d.ExportDataStatistics != nil {
			return max(0, d.ExportDataStatistics.FileCount)
		}
	case *bigquery.ExtractStatistics:
		for _, one := range d.DestinationURIFileCounts {
			n += max(0, one)
		}
	}
	return n
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for BigQuery: %w", context.Cause(ctx))
	}
}
