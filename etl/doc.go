// Package etl is the lightning pipeline: it takes tiles chunk by chunk from BigQuery or Google Cloud Storage through S3 into
// Postgres, in six steps:
//
//	extract    a BigQuery job writes the chunk into Google Cloud Storage
//	copy       its objects, pinned to a generation, go to S3
//	ingest     a strict reader makes one canonical Parquet file of them; bad lines go to quarantine
//	aggregate  an engine adds them up by day, month, and month and cell
//	load       the chunk is replaced in Postgres, in one fenced transaction
//	publish    the chunk is seen through the views, and marked as up to date
//
// Each step of each chunk is in a ledger in the target database, every write of which is fenced by the job's epoch; what a
// step made is trusted only through its manifest. A run that is killed anywhere goes on from there: whatever is finished
// is found and not done again, and nothing is ever loaded twice or in part.
package etl
