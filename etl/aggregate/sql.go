package aggregate

import (
	"fmt"
	"strconv"
	"strings"
)

// The queries, as every engine runs them. "tiles" is a view of the engine's own over the canonical columns day DATE,
// lat10, lon10, strikes; {cell} is the edge of a cell in tenths of a degree.
//
// What both engines treat alike, and nothing else, is allowed here: no "/" (of integers it is a double in both) and no "//"
// (Spark has none); year() is BIGINT in DuckDB and INT in Spark, sum() of BIGINT is HUGEINT in DuckDB, so all is cast; no
// alias is named as a column of the same SELECT's source, because GROUP BY would mean the column.
const (
	daySQL = `SELECT day, CAST(sum(CAST(strikes AS BIGINT)) AS BIGINT) AS strikes, CAST(count(*) AS BIGINT) AS tiles
FROM tiles
GROUP BY day
ORDER BY day`

	// By day first: count(DISTINCT day) would hash every row once more, which is a fifth of the processor time of a job.
	monthSQL = `SELECT y AS year, m AS month, CAST(count(*) AS BIGINT) AS days, CAST(sum(n) AS BIGINT) AS strikes, CAST(sum(k) AS BIGINT) AS tiles
FROM (
  SELECT CAST(year(day) AS INT) AS y, CAST(month(day) AS INT) AS m, CAST(sum(CAST(strikes AS BIGINT)) AS BIGINT) AS n, CAST(count(*) AS BIGINT) AS k
  FROM tiles
  GROUP BY day
) AS t
GROUP BY y, m
ORDER BY y, m`

	// The edge of the cell that holds x is x rounded down to a multiple of {cell}, also below zero: % takes the sign of x in
	// both engines, so ((x % c) + c) % c is how far x lies above the edge.
	cellSQL = `SELECT y AS year, m AS month, lat AS lat10, lon AS lon10, CAST(sum(n) AS BIGINT) AS strikes, CAST(count(*) AS BIGINT) AS tiles
FROM (
  SELECT CAST(year(day) AS INT) AS y, CAST(month(day) AS INT) AS m,
    CAST(lat10 AS INT) - ((CAST(lat10 AS INT) % {cell}) + {cell}) % {cell} AS lat,
    CAST(lon10 AS INT) - ((CAST(lon10 AS INT) % {cell}) + {cell}) % {cell} AS lon,
    CAST(strikes AS BIGINT) AS n
  FROM tiles
) AS t
GROUP BY y, m, lat, lon
ORDER BY y, m, lat, lon`

	totalsSQL = `SELECT CAST(count(*) AS BIGINT) AS tiles, CAST(coalesce(sum(CAST(strikes AS BIGINT)), 0) AS BIGINT) AS strikes, CAST(count(DISTINCT day) AS BIGINT) AS days
FROM tiles`
)

// DefaultCell is the edge of a cell in tenths of a degree: half a degree.
const DefaultCell = 5

// maxCell is a cell of 90 degrees.
const maxCell = 900

// Texts are the queries of a job.
type Texts struct {
	Day, Month, Cell string // results with the columns of the frames of the same name
	Totals           string // one row: tiles, strikes, days
}

// SQL returns the queries for cells of the given edge in tenths of a degree, 1..900; 0 is DefaultCell.
func SQL(cell int) (Texts, error) {
	if cell == 0 {
		cell = DefaultCell
	}
	if cell < 1 || cell > maxCell {
		return Texts{}, fmt.Errorf("cell of %d tenths of a degree: must be 1..%d", cell, maxCell)
	}
	return Texts{Day: daySQL, Month: monthSQL, Cell: strings.ReplaceAll(cellSQL, "{cell}", strconv.Itoa(cell)), Totals: totalsSQL}, nil
}
