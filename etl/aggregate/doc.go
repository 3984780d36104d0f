// Package aggregate sums the tiles of a chunk by day, by month, and by month and cell of a coarser grid.
//
// One SQL text is run by every engine, over the canonical Parquet files of package columnar and nothing else. It is written
// in what DuckDB and Spark understand alike: integers only, every type cast, every result in a total order. The rows come
// back as columns of integers, and one writer spells them as CSV, so that the results of two engines are equal exactly if
// their sums (sha256) are.
package aggregate
