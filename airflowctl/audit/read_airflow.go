package audit

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// part is what one look at Airflow's tables needs. Columns are probed, never assumed: "table.column" and the type.
type part struct {
	what    string
	columns map[string]string
	read    func(r *reader, ctx context.Context, tx pgx.Tx, home string) error
}

const (
	varchar   = "character varying"
	timestamp = "timestamp with time zone"
)

var parts = []part{
	{"schedulers", map[string]string{
		"job.id": "integer", "job.job_type": varchar, "job.state": varchar, "job.hostname": varchar,
		"job.start_date": timestamp, "job.latest_heartbeat": timestamp, "job.end_date": timestamp,
	}, (*reader).readSchedulers},
	{"tries of each scheduler", map[string]string{
		"task_instance.queued_by_job_id": "integer", "task_instance_history.queued_by_job_id": "integer",
	}, (*reader).readCounts},
	{"tries that ran twice", map[string]string{
		"log.id": "integer", "log.dttm": timestamp, "log.event": varchar, "log.dag_id": varchar, "log.run_id": varchar, "log.task_id": varchar,
		"log.map_index": "integer", "log.try_number": "integer", "log.extra": "text",
		"dag_run.dag_id": varchar, "dag_run.run_id": varchar, "dag_run.created_at": timestamp,
	}, (*reader).readTries},
}

// readAirflow reads what can be read of each part.
func (r *reader) readAirflow(ctx context.Context, tx pgx.Tx, home string) error {
	switch {
	case !r.config.Airflow:
		return nil
	case home == "":
		r.found.Unseen = append(r.found.Unseen, Unseen{What: "Airflow", Why: "there are no tables of Airflow's in this database", Absent: true})
		return nil
	}
	for _, p := range parts {
		problems, err := p.probe(ctx, tx, home)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			r.unseen(p.what, "%s", strings.Join(problems, "; "))
			continue
		}
		if err := p.read(r, ctx, tx, home); err != nil {
			return fmt.Errorf("read %s: %w", p.what, err)
		}
	}
	return nil
}

// probe names the columns that are not there, are something else, or may not be read.
func (p part) probe(ctx context.Context, tx pgx.Tx, home string) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT c.relname || '.' || a.attname, format_type(a.atttypid, NULL),
		  has_schema_privilege(n.oid, 'USAGE') AND (has_table_privilege(c.oid, 'SELECT') OR has_column_privilege(c.oid, a.attnum, 'SELECT'))
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE n.nspname = $1`, home)
	if err != nil {
		return nil, err
	}
	var name, kind string
	var readable bool
	found, forbidden := map[string]string{}, map[string]bool{}
	_, err = pgx.ForEachRow(rows, []any{&name, &kind, &readable}, func() error {
		found[name], forbidden[name] = kind, !readable
		return nil
	})
	var problems []string
	for column, want := range p.columns {
		switch got := found[column]; {
		case got == "":
			problems = append(problems, "no column "+column)
		case got != want:
			problems = append(problems, fmt.Sprintf("column %s is %s, not %s", column, got, want))
		case forbidden[column]:
			table, _, _ := strings.Cut(column, ".")
			problems = append(problems, fmt.Sprintf("this login may not read table %s.%s: use one that is granted pg_read_all_data", home, table))
		}
	}
	sort.Strings(problems)
	return slices.Compact(problems), err
}

// in names a table in Airflow's schema.
func in(home, table string) string { return pgx.Identifier{home, table}.Sanitize() }

func (r *reader) readSchedulers(ctx context.Context, tx pgx.Tx, home string) error {
	rows, err := tx.Query(ctx, `SELECT id, coalesce(hostname, ''), coalesce(state, ''), start_date, latest_heartbeat, end_date
		FROM `+in(home, "job")+` WHERE job_type = 'SchedulerJob' ORDER BY id`)
	if err != nil {
		return err
	}
	var s Scheduler
	var start, beat, end *time.Time
	_, err = pgx.ForEachRow(rows, []any{&s.ID, &s.Host, &s.State, &start, &beat, &end}, func() error {
		s.Start, s.Beat, s.End = orZero(start), orZero(beat), orZero(end)
		r.found.Schedulers = append(r.found.Schedulers, s)
		return nil
	})
	return err
}

func orZero(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return *at
}

// readCounts counts tries by who queued them, or adopted them last. A try that was taken back to be queued again counts once.
func (r *reader) readCounts(ctx context.Context, tx pgx.Tx, home string) error {
	rows, err := tx.Query(ctx, `SELECT queued_by_job_id::bigint, count(*) FROM (
		  SELECT queued_by_job_id FROM `+in(home, "task_instance")+` UNION ALL SELECT queued_by_job_id FROM `+in(home, "task_instance_history")+`) t
		WHERE queued_by_job_id IS NOT NULL GROUP BY 1`)
	if err != nil {
		return err
	}
	r.found.Tries = map[int64]int{}
	var id int64
	var count int
	_, err = pgx.ForEachRow(rows, []any{&id, &count}, func() error {
		r.found.Tries[id] = count
		return nil
	})
	return err
}

// readTries reads the lines of tries that began more than once since the ledger begins, and of what makes that right: see judge.
func (r *reader) readTries(ctx context.Context, tx pgx.Tx, home string) error {
	since := time.Time{}
	if len(r.found.Events) > 0 {
		since = r.found.Events[0].At
	}
	var from *time.Time
	log := in(home, "log")
	if err := tx.QueryRow(ctx, "SELECT min(dttm) FROM "+log).Scan(&from); err != nil {
		return err
	}
	r.found.LogFrom = orZero(from)
	rows, err := tx.Query(ctx, `
		WITH again AS MATERIALIZED (
		  SELECT dag_id, run_id, task_id, map_index, try_number FROM `+log+`
		  WHERE event = $1 AND dttm >= $2 AND dag_id IS NOT NULL AND run_id IS NOT NULL AND task_id IS NOT NULL AND map_index IS NOT NULL AND try_number IS NOT NULL
		  GROUP BY 1, 2, 3, 4, 5 HAVING count(*) > 1
		), lines AS (
		  SELECT l.id, l.dttm, l.event, l.extra, a.* FROM again a JOIN `+log+` l USING (dag_id, run_id, task_id, map_index, try_number)
		  WHERE l.event = $1 OR l.event = ANY ($3)
		UNION
		  SELECT l.id, l.dttm, l.event, NULL, a.* FROM again a JOIN `+log+` l ON l.event = ANY ($4) AND l.dag_id = a.dag_id AND (l.run_id = a.run_id OR l.run_id IS NULL)
		)
		SELECT l.id, l.dttm, l.event, coalesce(substring(l.extra FROM '"host_name": *"([^"]*)"'), ''), l.dag_id, l.run_id, l.task_id, l.map_index, l.try_number, d.created_at
		FROM lines l LEFT JOIN `+in(home, "dag_run")+` d ON d.dag_id = l.dag_id AND d.run_id = l.run_id
		WHERE l.dttm >= $2 ORDER BY l.id`, lineRunning, since, pauses, deletions)
	if err != nil {
		return err
	}
	var l Line
	var made *time.Time
	_, err = pgx.ForEachRow(rows, []any{&l.ID, &l.At, &l.Event, &l.Host, &l.Try.DAG, &l.Try.Run, &l.Try.Task, &l.Try.Map, &l.Try.Number, &made}, func() error {
		l.Made = orZero(made)
		r.found.Lines = append(r.found.Lines, l)
		return nil
	})
	return err
}
