package sandbox

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// FuzzParseExport: the statement that is understood means the same when it is put together again; all else is refused in BigQuery's way.
func FuzzParseExport(f *testing.F) {
	f.Add("EXPORT DATA OPTIONS(uri='gs://b/2018/part-*.csv.gz', format='CSV', compression='GZIP', header=true, overwrite=true) AS " +
		"SELECT date, number_of_strikes, center_point_geom FROM `p.d.t` WHERE date >= DATE('2018-01-01') AND date < DATE('2019-01-01') ORDER BY date")
	f.Add("export data options (uri=\"gs://b/*\",format='csv',compression='gzip')as select * from `d.t` where x>=timestamp '2018-01-01 00:00:00 UTC' and x<timestamp'2018-02-01';")
	f.Fuzz(func(t *testing.T, sql string) {
		e, err := parseExport(sql)
		if err != nil {
			var r *refused
			if e != nil || !errors.As(err, &r) || r.reason != "invalidQuery" {
				t.Fatalf("%+v, %v", e, err)
			}
			return
		}
		again, err := parseExport(e.spelled())
		if err != nil {
			t.Fatalf("%q was taken, and %q is not: %v", sql, e.spelled(), err)
		}
		if again.spelled() != e.spelled() || again.from != e.from || again.to != e.to || again.uri != e.uri {
			t.Fatalf("%q became %q", e.spelled(), again.spelled())
		}
	})
}

func (e *export) spelled() string {
	quote := "'"
	if strings.Contains(e.uri, quote) {
		quote = `"`
	}
	table := e.dataset + "." + e.table
	if e.project != "" {
		table = e.project + "." + table
	}
	order := ""
	if len(e.orderBy) > 0 {
		order = " ORDER BY " + strings.Join(e.orderBy, ", ")
	}
	return fmt.Sprintf("EXPORT DATA OPTIONS(uri=%s, format='CSV', compression='GZIP', header=%v, overwrite=%v) AS SELECT %s FROM `%s` WHERE %s >= %s('%s') AND %s < %s('%s')%s",
		quote+e.uri+quote, e.header, e.overwrite, strings.Join(e.columns, ", "), table, e.field, e.fromType, e.from, e.field, e.untilType, e.to, order)
}
