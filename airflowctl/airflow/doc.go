// Package airflow speaks with Airflow's metadata database (the metastore) for one life of the
// scheduler: it checks that the schema is known, adopts what dead schedulers left, mirrors who is
// active, and tells whether the scheduler makes progress. It also makes the environment in which a
// scheduler must be started.
//
// Every statement runs with the credentials of the life's own epoch role, so the database fences
// this package together with the scheduler: when a newer epoch is granted, all of it fails.
package airflow
