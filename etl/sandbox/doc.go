// Package sandbox serves S3, Google Cloud Storage and BigQuery on loopback, in this process, so that the pipeline runs
// with its real clients on a machine without a cloud.
//
// S3 is versitygw, GCS is fake-gcs-server, both on files below Config.Dir; BigQuery is a wire server of our own over
// generated tables (package synth), or over given files. Faults can be planned while it runs.
//
// S3 asks for its keys; GCS and BigQuery let everyone in. Hence loopback only. One sandbox runs per process, and while
// it runs the process's working directory is a folder of the sandbox (versitygw demands both): use absolute paths.
package sandbox
