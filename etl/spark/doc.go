// Package spark runs the queries of package aggregate on Apache Spark, in this machine or on a cluster.
//
// An Engine starts Spark once, through spark-submit, with the small program job.py, and hands it one chunk after the other
// over a Unix socket. Spark reads canonical Parquet files by itself, from S3 through s3a:// or from a folder, and hands back
// columns of integers, which package aggregate checks, spells and hashes as it does those of DuckDB. Spark writes to
// nothing but a file in the engine's own folder: a chunk that it does not finish leaves nothing behind.
//
// The process that runs Spark is in a process group of its own and ends with this program, however that ends.
package spark
