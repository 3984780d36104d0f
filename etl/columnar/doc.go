// Package columnar writes and reads the canonical Parquet file of a chunk: the only form in which engines see tiles.
//
// Columns are day (DATE), lat10, lon10 (INT16, tenths of a degree) and strikes (INT32), none of them null, sorted by day,
// latitude and longitude, every tile and day once. Equal tables give equal bytes, so a file's checksum names its contents.
package columnar
