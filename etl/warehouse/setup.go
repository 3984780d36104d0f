package warehouse

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed setup.sql
var setupTemplate string

// Layout says where things are in the database.
type Layout struct {
	Pipeline string   // name in the ledger, and schema of the tables; "" = "lightning"
	Schema   string   // schema of the views; "" = "public"
	Group    string   // role whose members are the job (of the fence's set-up); "" = whoever sets up runs the job too
	Readers  []string // roles that may read the views, such as the dashboard's
}

// plain are the names that need no quotes anywhere.
var plain = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func (l Layout) complete() (Layout, error) {
	if l.Pipeline == "" {
		l.Pipeline = "lightning"
	}
	if l.Schema == "" {
		l.Schema = "public"
	}
	var faults []error
	for _, name := range []string{l.Pipeline, l.Schema} {
		if !plain.MatchString(name) {
			faults = append(faults, fmt.Errorf("name %q: small letters, digits and _ only, at most 63", name))
		}
	}
	if l.Pipeline == "duoflow" || l.Pipeline == "public" || l.Pipeline == l.Schema {
		faults = append(faults, fmt.Errorf("pipeline %q: its tables want a schema of that name for themselves", l.Pipeline))
	}
	return l, errors.Join(faults...)
}

// SetupSQL returns the text that makes the ledger, tables and views: one transaction, harmless when run again. The
// administrator of the database runs it; the job's own role cannot.
func SetupSQL(l Layout) (string, error) {
	l, err := l.complete()
	if err != nil {
		return "", fmt.Errorf("set up warehouse: %w", err)
	}
	return strings.NewReplacer(
		"{{pipeline_text}}", l.Pipeline,
		"{{store_text}}", quoteText(l.Pipeline),
		"{{schema_text}}", quoteText(l.Schema),
		"{{store}}", l.Pipeline,
		"{{schema}}", l.Schema,
		"{{grants}}", l.grants(),
	).Replace(setupTemplate), nil
}

// views are those of the layout's schema.
var views = []string{"lightning", "lightning_daily", "lightning_monthly", "lightning_cell_month", "lightning_coverage", "lightning_loads"}

func (l Layout) grants() string {
	var out strings.Builder
	if l.Group != "" {
		fmt.Fprintf(&out, `
-- 5. Rights of the job, through its group: to fill the tables, not to change them.
GRANT USAGE ON SCHEMA duoflow, %[1]s, %[2]s TO %[3]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON duoflow.etl_chunk, %[1]s.chunk TO %[3]s;
GRANT SELECT, INSERT, DELETE ON %[1]s.day, %[1]s.month, %[1]s.cell_month TO %[3]s;
GRANT EXECUTE ON FUNCTION %[1]s.label() TO %[3]s;
`, l.Pipeline, l.Schema, pgx.Identifier{l.Group}.Sanitize())
	}
	for _, reader := range append(l.Readers[:len(l.Readers):len(l.Readers)], l.Group) {
		if reader == "" {
			continue
		}
		fmt.Fprintf(&out, "GRANT USAGE ON SCHEMA %[1]s TO %[2]s;\n", l.Schema, pgx.Identifier{reader}.Sanitize())
		for _, view := range views {
			fmt.Fprintf(&out, "GRANT SELECT ON %s.%s TO %s;\n", l.Schema, view, pgx.Identifier{reader}.Sanitize())
		}
	}
	return out.String()
}

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// Setup runs SetupSQL. A table of the original program that stands where a view has to be is an error; nothing of it is
// touched.
func (w *Warehouse) Setup(ctx context.Context) error {
	if w.config.ReadOnly {
		return fmt.Errorf("set up warehouse: %w", ErrReadOnly)
	}
	text, err := SetupSQL(w.layout)
	if err != nil {
		return err
	}
	conn, release, err := w.notes.acquire(ctx)
	if err != nil {
		return fmt.Errorf("set up warehouse: %w", err)
	}
	defer release()
	if _, err := conn.PgConn().Exec(ctx, text).ReadAll(); err != nil {
		// The text begins a transaction; the session must not stay in it.
		_, _ = conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll()
		return fmt.Errorf("set up warehouse: %w", explain(err))
	}
	return nil
}

// columns are those that Setup makes, by table of the pipeline's schema; the ledger's is duoflow.etl_chunk.
var columns = map[string]string{
	"day":        "strikes bigint, day date, tiles integer, synthetic boolean",
	"month":      "strikes bigint, tiles integer, year smallint, month smallint, days smallint, synthetic boolean",
	"cell_month": "year smallint, month smallint, lat10 smallint, lon10 smallint, strikes integer, tiles integer",
	"chunk": "chunk text, first_day date, last_day date, source_hash text, hash text, cell10 smallint, rows bigint, strikes bigint, " +
		"synthetic boolean, epoch bigint, node text, loaded timestamp with time zone",
	"duoflow.etl_chunk": "pipeline text, chunk text, step text, state text, epoch bigint, node text, source_hash text, sources jsonb, upload_id text, " +
		"manifests jsonb, rows bigint, strikes bigint, quarantined bigint, hash text, synthetic boolean, took_ms bigint, error text, updated timestamp with time zone",
}

// Ready tells whether the tables and views are as Setup makes them: ErrNotSetUp if one is missing, ErrChanged if a column is.
func (w *Warehouse) Ready(ctx context.Context) error {
	conn, release, err := w.notes.acquire(ctx)
	if err != nil {
		return fmt.Errorf("look at warehouse: %w", err)
	}
	defer release()
	var tables, wanted, names []string
	for _, table := range slices.Sorted(maps.Keys(columns)) {
		full := table
		if !strings.Contains(table, ".") {
			full = w.table(table)
		}
		tables = append(tables, full)
		for column := range strings.SplitSeq(columns[table], ", ") {
			wanted = append(wanted, full+"."+column)
		}
	}
	for _, view := range views {
		names = append(names, w.layout.Schema+"."+view)
	}
	for _, one := range []struct {
		kind error
		sql  string
		want []string
	}{
		{ErrNotSetUp, "to_regclass(n) IS NULL", tables},
		{ErrChanged, `NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped
AND a.attrelid = to_regclass(split_part(n, '.', 1) || '.' || split_part(n, '.', 2))
AND split_part(n, '.', 3) = a.attname || ' ' || format_type(a.atttypid, a.atttypmod))`, wanted},
		{ErrNotSetUp, "to_regclass(n) IS NULL", names},
	} {
		var missing []string
		err = conn.QueryRow(ctx, "SELECT coalesce(array_agg(n), '{}') FROM unnest($1::text[]) n WHERE "+one.sql, one.want).Scan(&missing)
		if err != nil {
			return fmt.Errorf("look at warehouse: %w", explain(err))
		}
		if len(missing) > 0 {
			return fmt.Errorf("look at warehouse: %w: no %s", one.kind, strings.Join(missing, ", "))
		}
	}
	return nil
}
