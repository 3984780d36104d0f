package dagrun

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
)

// State of a run, as Airflow calls it.
type State string

// The states of a run.
const (
	Queued  State = "queued"
	Running State = "running"
	Success State = "success"
	Failed  State = "failed"
)

// Ended tells whether a run in this state goes on only if it is cleared.
func (s State) Ended() bool { return s == Success || s == Failed }

// Conf is what a run is told to do. The DAG reads it by these names.
type Conf struct {
	Pipeline   string   `json:"pipeline"`
	Connection string   `json:"connection"` // see Client.Lend
	Chunks     []string `json:"chunks"`     // a mapped task's index is that of its chunk
	Force      bool     `json:"force"`
	Accept     bool     `json:"accept"`
}

// Run is a run of the DAG.
type Run struct {
	ID    string `json:"dag_run_id"`
	State State  `json:"state"`
	Conf  Conf   `json:"conf"`
}

// ErrNoDAG: Airflow does not know the DAG.
var ErrNoDAG = errors.New("airflow does not know the DAG: is its file in the dags folder, and does it parse?")

func (c *Client) path(rest string) string { return "/dags/" + url.PathEscape(c.config.DAG) + rest }

func (c *Client) runPath(id, rest string) string {
	return c.path("/dagRuns/" + url.PathEscape(id) + rest)
}

// Trigger makes a run with this id, or finds that there is one: then existed is true, and the run is as it was made, whatever conf says.
func (c *Client) Trigger(ctx context.Context, id string, conf Conf) (run Run, existed bool, err error) {
	body := map[string]any{"dag_run_id": id, "logical_date": nil, "conf": conf}
	err = c.call(ctx, http.MethodPost, c.path("/dagRuns"), body, &run)
	switch {
	case refused(err, http.StatusConflict):
		run, err = c.Run(ctx, id)
		return run, true, err
	case refused(err, http.StatusNotFound):
		return run, false, errors.Join(ErrNoDAG, err)
	}
	return run, false, err
}

// Run looks a run up.
func (c *Client) Run(ctx context.Context, id string) (run Run, err error) {
	err = c.call(ctx, http.MethodGet, c.runPath(id, ""), nil, &run)
	return run, err
}

// Active lists the pipeline's runs that have not ended, the oldest first.
func (c *Client) Active(ctx context.Context, pipeline string) ([]Run, error) {
	var answer struct {
		Runs []Run `json:"dag_runs"`
	}
	query := url.Values{"state": {string(Running), string(Queued)}, "order_by": {"run_after"}, "limit": {"100"}}
	err := c.call(ctx, http.MethodGet, c.path("/dagRuns?"+query.Encode()), nil, &answer)
	if refused(err, http.StatusNotFound) {
		err = errors.Join(ErrNoDAG, err)
	}
	return slices.DeleteFunc(answer.Runs, func(r Run) bool { return r.Conf.Pipeline != pipeline }), err
}

// Again lets a run that has ended go on: with the tasks that failed and what comes after them, or with all.
func (c *Client) Again(ctx context.Context, id string, all bool) error {
	body := map[string]any{"dry_run": false, "only_failed": !all}
	return c.call(ctx, http.MethodPost, c.runPath(id, "/clear"), body, nil)
}

// Task is a task of a run: one chunk's, if it is mapped.
type Task struct {
	ID    string `json:"task_id"`
	Index int    `json:"map_index"` // -1 = not mapped
	State string `json:"state"`
	Try   int    `json:"try_number"`
}

// FailedTasks lists the tasks of a run that have failed for good, a hundred at most.
func (c *Client) FailedTasks(ctx context.Context, id string) ([]Task, error) {
	var answer struct {
		Tasks []Task `json:"task_instances"`
	}
	err := c.call(ctx, http.MethodGet, c.runPath(id, "/taskInstances?state=failed&limit=100"), nil, &answer)
	return answer.Tasks, err
}

// Paused tells whether Airflow has been told to let no run of the DAG begin.
func (c *Client) Paused(ctx context.Context) (bool, error) {
	var answer struct {
		Paused bool `json:"is_paused"`
	}
	err := c.call(ctx, http.MethodGet, c.path(""), nil, &answer)
	if refused(err, http.StatusNotFound) {
		err = errors.Join(ErrNoDAG, err)
	}
	return answer.Paused, err
}

// URL is the page of a run, for people.
func (c *Client) URL(id string) string {
	return c.base + c.path("/runs/"+url.PathEscape(id))
}
