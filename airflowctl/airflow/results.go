package airflow

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// KeepsResults tells whether a scheduler with this executor setting ([core] executor, several with commas) and the
// operator's environment reads Celery's results in the metastore.
func KeepsResults(executor string, operator []string) bool {
	backend := ""
	for _, entry := range operator {
		if value, found := strings.CutPrefix(entry, resultBackend+"="); found {
			backend = value
		}
	}
	return strings.Contains(executor, "Celery") && !foreignBackend(backend)
}

// resultTables are what Celery's database backend makes when it finds them missing, which an epoch role may not: the
// scheduler would end with its first task. Where it may (Postgres 14, schema public), it would own them and write past the fence.
const resultTables = `
	SELECT coalesce(string_agg(t.name || CASE WHEN c.oid IS NULL THEN ' is missing' ELSE ' may not be read by ' || $1 END, ', ' ORDER BY t.name), '')
	FROM unnest(ARRAY['celery_taskmeta', 'celery_tasksetmeta']) t(name)
	LEFT JOIN pg_class c ON c.relname = t.name AND c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'public')
	WHERE c.oid IS NULL OR NOT has_table_privilege($1::name, c.oid, 'SELECT')`

// CheckResults looks with any login whether Celery's result tables are there and the group may read them. It changes
// nothing. The error is for a server that cannot be asked.
func CheckResults(ctx context.Context, dsn, group string) (fence.Finding, error) {
	finding := fence.Finding{Name: "Celery's result tables"}
	login, err := pgx.ParseConfig(dsn)
	if err != nil {
		return finding, errors.New("check Celery's result tables: unusable DSN") // err may quote it
	}
	if login.ConnectTimeout == 0 || login.ConnectTimeout > connectTimeout {
		login.ConnectTimeout = connectTimeout
	}
	conn, err := pgx.ConnectConfig(ctx, login)
	if err != nil {
		return finding, fmt.Errorf("check Celery's result tables: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.QueryRow(ctx, resultTables, group).Scan(&finding.Detail); err != nil {
		return finding, fmt.Errorf("check Celery's result tables: %w", err)
	}
	if finding.Detail == "" {
		finding.OK, finding.Detail = true, "there, and readable by "+group
		return finding, nil
	}
	finding.Mend = "start one Celery worker as the owner of Airflow's tables, which makes them, then run the set-up (duoctl metastore init) again for the rights"
	return finding, nil
}
