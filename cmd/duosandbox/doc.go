// Command duosandbox serves S3, Google Cloud Storage and BigQuery on loopback, with generated lightning tiles in BigQuery's
// tables, so that the pipeline can be tried without a cloud.
//
// When all servers answer it prints where they are, as text or as one line of JSON, and serves until SIGTERM or SIGINT.
// Exit codes: 0 ended by a signal, 1 failed, 2 usage.
package main
