package sandbox

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"

	"github.com/duoflow/duoflow/etl/tile"
)

// exportShape is the one statement that the server understands.
const exportShape = "EXPORT DATA OPTIONS(uri='gs://bucket/path*.csv.gz', format='CSV', compression='GZIP', header=true, overwrite=true) AS " +
	"SELECT columns FROM `project.dataset.table` WHERE date >= TIMESTAMP('2018-01-01') AND date < TIMESTAMP('2019-01-01') ORDER BY date, ..."

var (
	exportPattern = regexp.MustCompile("(?is)^\\s*EXPORT\\s+DATA\\s+OPTIONS\\s*\\((.*?)\\)\\s*AS\\s+SELECT\\s+(.+?)\\s+FROM\\s+`([^`]+)`\\s+WHERE\\s+(.+?)(?:\\s+ORDER\\s+BY\\s+(.+?))?\\s*;?\\s*$")
	rangePattern  = regexp.MustCompile(`(?is)^` + bound + `(>=)` + value + `\s+AND\s+` + bound + `(<)` + value + `$`)
	optionPattern = regexp.MustCompile(`(?is)^\s*(\w+)\s*=\s*(?:'([^']*)'|"([^"]*)"|(true|false))\s*$`)
)

const (
	bound = "`?(\\w+)`?\\s*"
	value = `\s*(TIMESTAMP|DATE)\s*\(?\s*['"](\d{4}-\d{2}-\d{2})(?: 00:00:00(?:\+00| UTC)?)?['"]\s*\)?`
)

// export is a statement that was understood.
type export struct {
	uri                           string
	compressed, header, overwrite bool
	project, dataset, table       string   // project may be empty
	columns                       []string // as named; "*" alone is all
	field                         string   // of the range
	fromType, untilType           string   // DATE or TIMESTAMP
	from, to                      tile.Day // to is the first day after
	orderBy                       []string
}

// refused is an error with a reason of the REST API.
type refused struct{ reason, message string }

func (e *refused) Error() string { return e.message }

func invalid(format string, args ...any) error {
	return &refused{"invalidQuery", fmt.Sprintf(format, args...)}
}

// parseExport reads the one shape of statement; anything else is BigQuery's invalidQuery.
func parseExport(sql string) (*export, error) {
	m := exportPattern.FindStringSubmatch(sql)
	if m == nil {
		return nil, invalid("Syntax error: the sandbox understands only %s", exportShape)
	}
	var e export
	if err := e.options(m[1]); err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(m[2], ",") {
		e.columns = append(e.columns, strings.Trim(strings.TrimSpace(name), "`"))
	}
	path := strings.Split(m[3], ".")
	switch len(path) {
	case 3:
		e.project, e.dataset, e.table = path[0], path[1], path[2]
	case 2:
		e.dataset, e.table = path[0], path[1]
	default:
		return nil, invalid("Table %q must be qualified with a dataset", m[3])
	}
	if err := e.between(m[4]); err != nil {
		return nil, err
	}
	if m[5] != "" {
		for term := range strings.SplitSeq(m[5], ",") {
			e.orderBy = append(e.orderBy, strings.TrimSpace(term))
		}
	}
	return &e, nil
}

func (e *export) options(text string) error {
	format := ""
	for part := range strings.SplitSeq(text, ",") {
		m := optionPattern.FindStringSubmatch(part)
		if m == nil {
			return invalid("Syntax error in OPTIONS: %s", strings.TrimSpace(part))
		}
		text, truth := cmp.Or(m[2], m[3]), strings.EqualFold(m[4], "true")
		switch strings.ToLower(m[1]) {
		case "uri":
			e.uri = text
		case "format":
			format = strings.ToUpper(text)
		case "compression":
			e.compressed = strings.EqualFold(text, "GZIP")
		case "header":
			e.header = truth
		case "overwrite":
			e.overwrite = truth
		default:
			return invalid("Unknown option: %s", m[1])
		}
	}
	switch {
	case format != "CSV" || !e.compressed:
		return invalid("the sandbox exports format='CSV' with compression='GZIP' only")
	case strings.Count(e.uri, "*") != 1:
		return invalid("Option 'uri' value must be a wildcard URI")
	}
	return nil
}

func (e *export) between(text string) error {
	m := rangePattern.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil || !strings.EqualFold(m[1], m[5]) {
		return invalid("Syntax error in WHERE %s: the sandbox understands only %s", text, exportShape)
	}
	e.field, e.fromType, e.untilType = m[1], strings.ToUpper(m[3]), strings.ToUpper(m[7])
	var err error
	if e.from, err = tile.ParseDay(m[4]); err != nil {
		return invalid("Could not cast literal %q to type %s", m[4], e.fromType)
	}
	if e.to, err = tile.ParseDay(m[8]); err != nil {
		return invalid("Could not cast literal %q to type %s", m[8], e.untilType)
	}
	return nil
}

// bind checks the statement's names and types against the table, and hands out the columns and the order of rows.
func (e *export) bind(t *loaded) ([]column, []order, error) {
	all := columnsOf(t.Format)
	columns := all
	if len(e.columns) != 1 || e.columns[0] != "*" {
		columns = nil
		for _, name := range e.columns {
			c, ok := find(all, name)
			if !ok {
				return nil, nil, invalid("Unrecognized name: %s", name)
			}
			columns = append(columns, c)
		}
	}
	field, ok := find(all, e.field)
	if !ok {
		return nil, nil, invalid("Unrecognized name: %s", e.field)
	}
	for _, kind := range []string{e.fromType, e.untilType} {
		if field.kind != kind {
			return nil, nil, invalid("No matching signature for operator >= for argument types: %s, %s", field.kind, kind)
		}
	}
	if field.name != all[0].name {
		return nil, nil, invalid("the sandbox filters by %s only", all[0].name)
	}
	var orders []order
	for i, term := range e.orderBy {
		if i == 0 && !strings.EqualFold(strings.Trim(term, "`"), all[0].name) {
			return nil, nil, invalid("the sandbox orders by %s first", all[0].name)
		}
		o, err := orderOf(all, term)
		if err != nil {
			return nil, nil, invalid("%s", err)
		}
		orders = append(orders, o)
	}
	return columns, orders, nil
}
