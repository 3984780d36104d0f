// Package bigq has BigQuery write a chunk of the lightning table into Google Cloud Storage.
//
// A chunk that is a whole per-year table is extracted, which costs nothing. Anything else is a query, EXPORT DATA with a
// filter, which is billed for the scan. The job's id is made of the pipeline, the chunk and the state of the table: who comes
// second, after a failover or at the next run, finds the job that runs, or the files that it wrote.
package bigq
