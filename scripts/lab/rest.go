package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
)

// callLimit bounds one REST call.
const callLimit = 10 * time.Second

// direct never asks a proxy.
var direct = &http.Client{Transport: &http.Transport{}}

// errStatus is an answer with another status than the wanted one.
type errStatus struct {
	code int
	body string
}

func (e *errStatus) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.body) }

// call sends a JSON request and decodes a 2xx answer into answer unless that is nil.
func (a *Airflow) call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.URL+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	if a.token != "" {
		request.Header.Set("Authorization", "Bearer "+a.token)
	}
	response, err := direct.Do(request)
	if err != nil {
		return fmt.Errorf("call %s: %w", path, err)
	}
	defer response.Body.Close()
	text, err = io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("call %s: %w", path, &errStatus{response.StatusCode, string(text)})
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("decode answer of %s: %w", path, err)
	}
	return nil
}

func (a *Airflow) knows(dag string) func(context.Context) error {
	return func(ctx context.Context) error { return a.call(ctx, http.MethodGet, a.line.api+"/dags/"+dag, nil, nil) }
}

// Trigger starts a run of DAG under an id of the caller's. One that exists already is fine.
func (a *Airflow) Trigger(ctx context.Context, runID string) error {
	return a.TriggerDAG(ctx, DAG, runID)
}

// TriggerDAG is Trigger for any DAG that Airflow knows.
func (a *Airflow) TriggerDAG(ctx context.Context, dag, runID string) error {
	body := map[string]any{"dag_run_id": runID}
	if a.line.login {
		body["logical_date"] = nil // asked for by line 3, refused by line 2
	}
	err := a.call(ctx, http.MethodPost, a.line.api+"/dags/"+dag+"/dagRuns", body, nil)
	var status *errStatus
	if errors.As(err, &status) && status.code == http.StatusConflict {
		return nil
	}
	return err
}

// RunState is the state of a run of DAG: queued, running, success or failed; "" when there is none.
func (a *Airflow) RunState(ctx context.Context, runID string) (string, error) {
	var state string
	err := a.query(ctx, func(conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, "SELECT state FROM dag_run WHERE dag_id = $1 AND run_id = $2", DAG, runID).Scan(&state)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return state, err
}

// TaskStates counts the task instances of a run by state; "" is the key of those without one yet.
func (a *Airflow) TaskStates(ctx context.Context, runID string) (map[string]int, error) {
	counts := map[string]int{}
	err := a.query(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT COALESCE(state, ''), count(*) FROM task_instance
			WHERE dag_id = $1 AND run_id = $2 GROUP BY 1`, DAG, runID)
		if err != nil {
			return err
		}
		var state string
		var count int
		_, err = pgx.ForEachRow(rows, []any{&state, &count}, func() error { counts[state] = count; return nil })
		return err
	})
	return counts, err
}

// Beats are the rows that the tasks of some runs left behind.
type Beats struct {
	Rows  int // task bodies begun
	Tasks int // different tasks among them
	Twice int // tasks with more than one row
}

// Beats counts what the tasks of a run did; "" = of all runs.
func (a *Airflow) Beats(ctx context.Context, runID string) (Beats, error) {
	var b Beats
	err := a.query(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT COALESCE(sum(n), 0), count(*), count(*) FILTER (WHERE n > 1) FROM (
			SELECT count(*) AS n FROM demo.demo_log WHERE $1 IN ('', run_id) GROUP BY run_id, task_id, map_index) AS t`,
			runID).Scan(&b.Rows, &b.Tasks, &b.Twice)
	})
	return b, err
}

// AwaitRun waits until a run of DAG has ended and returns its last state.
func (a *Airflow) AwaitRun(ctx context.Context, runID string) (string, error) {
	for {
		state, err := a.RunState(ctx, runID)
		if err != nil {
			return "", err
		}
		if state == "success" || state == "failed" {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return state, fmt.Errorf("wait for run %s, now %q: %w", runID, state, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (a *Airflow) query(ctx context.Context, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, a.store.Admin())
	if err != nil {
		return fmt.Errorf("connect to metastore: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := f(conn); err != nil {
		return fmt.Errorf("query metastore: %w", err)
	}
	return nil
}
