// Package dagrun speaks with Airflow's REST API (version 2 of it, Airflow 3) about the runs of one DAG: it triggers a run under an
// id that the caller chooses, finds it again, follows it, and runs what has failed once more. It also lends the DAG's tasks a
// login, in a connection of Airflow's.
//
// Nothing here is fenced: whoever is told by Airflow that a run exists may be of an old epoch. What the tasks write is.
package dagrun
