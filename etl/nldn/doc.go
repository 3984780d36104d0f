// Package nldn reads tiles from every text form in which they are published: NCEI's yearly and monthly files, its REST
// service, and CSV or newline JSON exports of the three generations of BigQuery tables.
//
// It is strict: what a line says is either understood completely or the line goes to quarantine with file, line and
// rule. No line is lost: lines = rows + duplicates + quarantined + comments + headers. A file that is damaged, or not
// of a known form, is an error, and nothing of it counts.
//
// Call Read for each file of a chunk, then Finish once.
package nldn
