package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	bq "google.golang.org/api/bigquery/v2"

	"github.com/duoflow/duoflow/etl/tile"
)

// bigQuery answers the calls of the REST API v2 that an extract needs. Projects are not looked at: every one has the
// tables.
type bigQuery struct {
	gcs       *fakestorage.Server
	faults    *Faults
	log       *slog.Logger
	shardRows int64
	works     sync.WaitGroup // jobs that run

	mu     sync.Mutex
	ctx    context.Context //nolint:containedctx // Run's: jobs outlive the request that began them, and end with it
	ended  bool            // no more jobs
	tables []*loaded       // by dataset and name
	jobs   map[string]*job
}

// end waits for the jobs; the context has told them to.
func (s *bigQuery) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.works.Wait()
}

// location is where everything lies; public data do so too.
const location = "US"

// setTables replaces all tables. Jobs that run go on with the old ones.
func (s *bigQuery) setTables(ctx context.Context, tables []Table) error {
	var all []*loaded
	for _, t := range tables {
		l, err := t.load(ctx, s.log)
		if err != nil {
			return err
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *loaded) int { return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.Name, b.Name)) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = all
	return nil
}

func (s *bigQuery) table(project, dataset, name string) (*loaded, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		if t.Dataset == dataset && t.Name == name {
			return t, nil
		}
	}
	return nil, &refused{"notFound", fmt.Sprintf("Not found: Table %s:%s.%s was not found in location %s", project, dataset, name, location)}
}

// handler is the server; paths may begin with /bigquery/v2, as the real ones do, or not, as clients make them of an
// endpoint without it.
func (s *bigQuery) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /projects/{project}/datasets":                               s.listDatasets,
		"GET /projects/{project}/datasets/{dataset}":                     s.getDataset,
		"GET /projects/{project}/datasets/{dataset}/tables":              s.listTables,
		"GET /projects/{project}/datasets/{dataset}/tables/{table}":      s.getTable,
		"GET /projects/{project}/datasets/{dataset}/tables/{table}/data": s.listData,
		"POST /projects/{project}/jobs":                                  s.insertJob,
		"GET /projects/{project}/jobs/{job}":                             s.getJob,
		"POST /projects/{project}/jobs/{job}/cancel":                     s.cancelJob,
		"GET /projects/{project}/queries/{job}":                          s.getQueryResults,
		"/": func(r *http.Request) (any, error) {
			return nil, &refused{"notImplemented", "the sandbox does not know " + r.Method + " " + r.URL.Path}
		},
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := answer(r)
			var e *refused
			switch {
			case errors.As(err, &e):
				writeGoogleError(w, googleError{statusOf(e.reason), e.reason, e.message})
			case err != nil:
				writeGoogleError(w, googleError{http.StatusInternalServerError, "internalError", err.Error()})
			default:
				writeJSON(w, http.StatusOK, v)
			}
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/bigquery/v2")
		mux.ServeHTTP(w, r)
	})
}

// bigQueryCall is the name of the call in the API.
func bigQueryCall(r *http.Request) string {
	part := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, "/bigquery/v2"), "/"), "/")
	kind := ""
	if len(part) >= 3 {
		kind = part[2]
	}
	switch {
	case kind == "jobs" && len(part) == 3 && r.Method == http.MethodPost:
		return "jobs.insert"
	case kind == "jobs" && len(part) == 4:
		return "jobs.get"
	case kind == "jobs" && len(part) == 5:
		return "jobs.cancel"
	case kind == "queries":
		return "jobs.getQueryResults"
	case kind == "datasets" && len(part) >= 7:
		return "tabledata.list"
	case kind == "datasets" && len(part) == 6:
		return "tables.get"
	case kind == "datasets" && len(part) == 5:
		return "tables.list"
	case kind == "datasets" && len(part) == 4:
		return "datasets.get"
	}
	return "datasets.list"
}

func (s *bigQuery) listDatasets(r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := &bq.DatasetList{Kind: "bigquery#datasetList"}
	last := ""
	for _, t := range s.tables {
		if t.Dataset != last {
			last = t.Dataset
			project := r.PathValue("project")
			out.Datasets = append(out.Datasets, &bq.DatasetListDatasets{
				Kind: "bigquery#dataset", Id: project + ":" + last, Location: location,
				DatasetReference: &bq.DatasetReference{ProjectId: project, DatasetId: last},
			})
		}
	}
	return out, nil
}

func (s *bigQuery) getDataset(r *http.Request) (any, error) {
	project, name := r.PathValue("project"), r.PathValue("dataset")
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tables {
		if t.Dataset == name {
			return &bq.Dataset{
				Kind: "bigquery#dataset", Id: project + ":" + name, Location: location, Description: "served by duosandbox",
				DatasetReference: &bq.DatasetReference{ProjectId: project, DatasetId: name},
			}, nil
		}
	}
	return nil, &refused{"notFound", fmt.Sprintf("Not found: Dataset %s:%s was not found in location %s", project, name, location)}
}

func (s *bigQuery) listTables(r *http.Request) (any, error) {
	if _, err := s.getDataset(r); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*bq.TableListTables
	for _, t := range s.tables {
		if t.Dataset == r.PathValue("dataset") {
			x := t.resource(r.PathValue("project"))
			all = append(all, &bq.TableListTables{Kind: "bigquery#table", Id: x.Id, TableReference: x.TableReference, Type: x.Type, Labels: x.Labels, CreationTime: x.CreationTime})
		}
	}
	from, to, next := page(r, int64(len(all)), 50)
	return &bq.TableList{Kind: "bigquery#tableList", Tables: all[from:to], NextPageToken: next, TotalItems: int64(len(all))}, nil
}

// page cuts a list as the request's maxResults and pageToken want.
func page(r *http.Request, total, usual int64) (from, to int64, next string) {
	number := func(key string, otherwise int64) int64 {
		n, err := strconv.ParseInt(r.FormValue(key), 10, 64)
		if err != nil || n < 0 {
			return otherwise
		}
		return n
	}
	from = min(number("pageToken", number("startIndex", 0)), total)
	to = min(from+min(number("maxResults", usual), usual), total)
	if to < total {
		next = strconv.FormatInt(to, 10)
	}
	return from, to, next
}

// resource is the table as the REST API shows it.
func (l *loaded) resource(project string) *bq.Table {
	columns := columnsOf(l.Format)
	origin := "files"
	if l.synthetic() {
		origin = "synthetic"
	}
	return &bq.Table{
		Kind: "bigquery#table", Id: project + ":" + l.Dataset + "." + l.Name, Type: "TABLE", Location: location,
		TableReference: &bq.TableReference{ProjectId: project, DatasetId: l.Dataset, TableId: l.Name},
		Description:    l.description(), Labels: map[string]string{"origin": origin},
		NumRows: uint64(l.rows), NumBytes: sizeOf(columns, l.rows), Schema: schemaOf(columns),
		CreationTime: l.modified.UnixMilli(), LastModifiedTime: uint64(l.modified.UnixMilli()),
		Etag: fmt.Sprintf("%x-%d", l.modified.UnixMilli(), l.rows),
	}
}

func (s *bigQuery) getTable(r *http.Request) (any, error) {
	t, err := s.table(r.PathValue("project"), r.PathValue("dataset"), r.PathValue("table"))
	if err != nil {
		return nil, err
	}
	return t.resource(r.PathValue("project")), nil
}

func (s *bigQuery) listData(r *http.Request) (any, error) {
	t, err := s.table(r.PathValue("project"), r.PathValue("dataset"), r.PathValue("table"))
	if err != nil {
		return nil, err
	}
	from, to, next := page(r, t.rows, 10_000)
	out := &bq.TableDataList{Kind: "bigquery#tableDataList", TotalRows: t.rows, PageToken: next}
	columns, micros := columnsOf(t.Format), r.FormValue("formatOptions.useInt64Timestamp") == "true"
	rows, at := t.open(), int64(0)
	for _, d := range t.totals {
		if at >= to {
			break
		}
		if at += d.Rows; at <= from {
			continue
		}
		i := at - d.Rows
		err := rows.day(d.Day, func(row tile.Row) error {
			if i >= from && i < to {
				var cells []*bq.TableCell
				for _, c := range columns {
					cells = append(cells, &bq.TableCell{V: c.value(row, micros)})
				}
				out.Rows = append(out.Rows, &bq.TableRow{F: cells})
			}
			i++
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *bigQuery) insertJob(r *http.Request) (any, error) {
	var in bq.Job
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, &refused{"parseError", err.Error()}
	}
	if in.Configuration == nil || (in.Configuration.Extract == nil) == (in.Configuration.Query == nil) {
		return nil, &refused{"invalid", "the sandbox does extract jobs and query jobs"}
	}
	if in.Configuration.Query != nil {
		// What is wrong with a statement is told at once, as BigQuery does.
		e, t, columns, _, err := s.understand(in.Configuration.Query.Query)
		if err != nil {
			return nil, err
		}
		if in.Configuration.DryRun {
			j := &job{config: *in.Configuration, state: "DONE", bytes: sizeOf(columns, t.rows)}
			j.ref = bq.JobReference{ProjectId: r.PathValue("project"), Location: location, JobId: "dry_run_of_" + e.table}
			return j.resource(), nil
		}
	}
	return s.begin(r.PathValue("project"), in)
}

// begin starts a job, once for each id.
func (s *bigQuery) begin(project string, in bq.Job) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, &refused{"backendError", "the sandbox ends"}
	}
	id := fmt.Sprintf("sandbox_job_%d", len(s.jobs)+1)
	if in.JobReference != nil && in.JobReference.JobId != "" {
		id = in.JobReference.JobId
	}
	key := project + ":" + id
	if s.jobs[key] != nil {
		return nil, &refused{"duplicate", fmt.Sprintf("Already Exists: Job %s:%s.%s", project, location, id)}
	}
	j := &job{
		ref:    bq.JobReference{ProjectId: project, JobId: id, Location: location},
		config: *in.Configuration, state: "PENDING", created: time.Now(), done: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(s.ctx)
	j.cancel = cancel
	s.jobs[key] = j
	s.works.Go(func() { j.run(ctx, s) })
	return j.resource(), nil
}

func (s *bigQuery) job(r *http.Request) (*job, error) {
	project, id := r.PathValue("project"), r.PathValue("job")
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[project+":"+id]; j != nil {
		return j, nil
	}
	return nil, &refused{"notFound", fmt.Sprintf("Not found: Job %s:%s", project, id)}
}

func (s *bigQuery) getJob(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	return j.resource(), nil
}

func (s *bigQuery) cancelJob(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	j.cancel()
	return &bq.JobCancelResponse{Kind: "bigquery#jobCancelResponse", Job: j.resource()}, nil
}

// getQueryResults waits a while for the job's end; an export has no rows to show.
func (s *bigQuery) getQueryResults(r *http.Request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	wait := 10 * time.Second
	if n, err := strconv.Atoi(r.FormValue("timeoutMs")); err == nil {
		wait = min(wait, time.Duration(n)*time.Millisecond)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-j.done:
	case <-timer.C:
	case <-r.Context().Done():
	}
	x := j.resource()
	if e := x.Status.ErrorResult; e != nil {
		return nil, &refused{e.Reason, e.Message}
	}
	return &bq.GetQueryResultsResponse{
		Kind: "bigquery#getQueryResultsResponse", JobReference: x.JobReference, JobComplete: x.Status.State == "DONE", Schema: &bq.TableSchema{},
		ForceSendFields: []string{"JobComplete"},
	}, nil
}
