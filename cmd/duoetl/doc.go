// Command duoetl runs the lightning pipeline: BigQuery or Google Cloud Storage, S3, canonical Parquet, sums by day, month and
// cell, Postgres.
//
// It is run by hand, or by duoflowd as a job; then it takes job, node and epoch from DUOFLOW_JOB, DUOFLOW_NODE and
// DUOFLOW_EPOCH, and the database from PGSERVICE and PGSERVICEFILE. A run that was interrupted anywhere goes on with the next.
package main
