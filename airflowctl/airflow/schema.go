package airflow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// release is what has been checked of a release line: on the running program, not only by its columns.
type release struct {
	name    string
	columns map[string]map[string]string
	// adoptsQueued: Airflow's own adoption at the start of a scheduler takes queued tasks over at once, and they must be left to it.
	// Line 2 writes the id of a message after sending, so a task without one was not sent for all it knows, and a task of line 2 has
	// no id that a sent message would name and that could be taken away.
	adoptsQueued bool
}

// revisions are the migrations that are known. The names are those of Airflow's own list (_REVISION_HEADS_MAP).
var revisions = map[string]release{
	"d2f4e1b3c5a7": {name: "3.3", columns: columns3},
	"5f2621c13b39": {name: "2.11", columns: columns2, adoptsQueued: true}, // since 2.10.3; tried with 2.11
}

// Releases are the release lines of Airflow whose schema is known, such as "3.3", sorted.
func Releases() []string {
	lines := make([]string, 0, len(revisions))
	for _, of := range revisions {
		lines = append(lines, of.name)
	}
	sort.Strings(lines)
	return lines
}

// columns3 are what the statements of this package read and write, and the id of a try in the
// history, which shows that each try has an id of its own.
var columns3 = map[string]map[string]string{
	"job": {"id": "integer", "state": "character varying", "job_type": "character varying",
		"latest_heartbeat": "timestamp with time zone", "end_date": "timestamp with time zone"},
	"task_instance": {"id": "uuid", "dag_id": "character varying", "run_id": "character varying",
		"state": "character varying", "try_number": "integer", "queued_by_job_id": "integer",
		"external_executor_id": "text", "queued_dttm": "timestamp with time zone",
		"updated_at": "timestamp with time zone"},
	"dag_run": {"dag_id": "character varying", "run_id": "character varying",
		"state": "character varying"},
	"task_reschedule":       {"ti_id": "uuid"},
	"task_instance_history": {"task_instance_id": "uuid"},
}

// columns2 are what is read and written of line 2.
var columns2 = map[string]map[string]string{
	"job":           columns3["job"],
	"task_instance": {"state": "character varying", "queued_by_job_id": "integer"},
}

// Schema is what Probe found.
type Schema struct {
	Revision string // of the last migration
	Airflow  string // release line that the revision belongs to, such as "3.3"; "" = vouched for by the operator
}

// UnknownSchemaError is a database that is not as this package knows it. Nothing was changed.
type UnknownSchemaError struct {
	Database string
	Revision string   // as found; "" = none
	Problems []string // sorted
}

func (e *UnknownSchemaError) Error() string {
	known := make([]string, 0, len(revisions))
	for revision, of := range revisions {
		known = append(known, fmt.Sprintf("%s (Airflow %s)", revision, of.name))
	}
	sort.Strings(known)
	return fmt.Sprintf("unknown Airflow schema in database %q: revision %q: %s; known: %s; "+
		"run `airflow db migrate` of a known release, use a duoflow that knows this one, or name the revision in the job's accept_revisions",
		e.Database, e.Revision, strings.Join(e.Problems, "; "), strings.Join(known, ", "))
}

// Probe reads the schema and returns *UnknownSchemaError unless every column and key that Adopt
// touches is as known. It reads only.
func (m *Metastore) Probe(ctx context.Context) (Schema, error) {
	var schema Schema
	err := m.use(ctx, func(conn *pgx.Conn) error {
		var err error
		schema, err = m.probe(ctx, conn)
		return err
	})
	return schema, err
}

func (m *Metastore) probe(ctx context.Context, conn *pgx.Conn) (Schema, error) {
	unknown := &UnknownSchemaError{Database: m.login.Database}
	revision, problem, err := readRevision(ctx, conn)
	if err != nil {
		return Schema{}, fmt.Errorf("read schema revision: %w", err)
	}
	of, known := revisions[revision]
	if !known {
		of.columns = columns3
	}
	unknown.Revision = revision
	switch {
	case problem != "":
		unknown.Problems = append(unknown.Problems, problem)
	case !known && !slices.Contains(m.config.AcceptRevisions, revision):
		unknown.Problems = append(unknown.Problems, "a revision not known")
	}
	for _, look := range []func(context.Context, *pgx.Conn, release) ([]string, error){wrongColumns, wrongKeys} {
		problems, err := look(ctx, conn, of)
		if err != nil {
			return Schema{}, fmt.Errorf("read schema: %w", err)
		}
		unknown.Problems = append(unknown.Problems, problems...)
	}
	if len(unknown.Problems) > 0 {
		sort.Strings(unknown.Problems)
		return Schema{}, unknown
	}
	m.adoptsQueued = of.adoptsQueued
	return Schema{Revision: revision, Airflow: of.name}, nil
}

func readRevision(ctx context.Context, conn *pgx.Conn) (revision, problem string, err error) {
	err = conn.QueryRow(ctx, "SELECT version_num FROM alembic_version").Scan(&revision)
	var refused *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", "table alembic_version is empty", nil
	case errors.As(err, &refused) && refused.Code == "42P01":
		return "", "no table alembic_version", nil
	}
	return revision, "", err
}

func wrongColumns(ctx context.Context, conn *pgx.Conn, of release) ([]string, error) {
	found := map[string]string{}
	rows, err := conn.Query(ctx, `
		SELECT t.name || '.' || a.attname, format_type(a.atttypid, NULL)
		FROM unnest($1::text[]) AS t(name)
		JOIN pg_attribute a ON a.attrelid = to_regclass(t.name) AND a.attnum > 0 AND NOT a.attisdropped`,
		sortedKeys(of.columns))
	if err != nil {
		return nil, err
	}
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		found[name] = kind
		return nil
	}); err != nil {
		return nil, err
	}
	var problems []string
	for table, wanted := range of.columns {
		for column, want := range wanted {
			switch got := found[table+"."+column]; got {
			case want:
			case "":
				problems = append(problems, fmt.Sprintf("no column %s.%s", table, column))
			default:
				problems = append(problems, fmt.Sprintf("column %s.%s is %s, not %s", table, column, got, want))
			}
		}
	}
	return problems, nil
}

// wrongKeys finds tables that refer to the id of a task instance and would not follow its change.
// task_reschedule does not follow by itself; Adopt moves it.
func wrongKeys(ctx context.Context, conn *pgx.Conn, of release) ([]string, error) {
	if of.adoptsQueued { // its ids are not changed
		return nil, nil
	}
	rows, err := conn.Query(ctx, `
		SELECT c.conrelid::regclass::text
		FROM pg_constraint c
		JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = ANY (c.confkey) AND a.attname = 'id'
		WHERE c.contype = 'f' AND c.confrelid = to_regclass('task_instance') AND c.confupdtype <> 'c'
		  AND c.conrelid IS DISTINCT FROM to_regclass('task_reschedule')`)
	if err != nil {
		return nil, err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	problems := make([]string, 0, len(tables))
	for _, table := range tables {
		problems = append(problems, fmt.Sprintf("table %s refers to task_instance.id in an unknown way", table))
	}
	return problems, nil
}

func sortedKeys[V any](of map[string]V) []string {
	keys := make([]string, 0, len(of))
	for key := range of {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
