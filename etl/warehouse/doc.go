// Package warehouse is the pipeline's end in Postgres: the tables, the views over them, and the ledger of what is done.
//
// Every write is one transaction that holds a lock on the job's row of duoflow.fence and has seen its own epoch there, so in
// the order of commits nothing of an old epoch comes after a new one. A chunk is replaced whole: copied aside, swapped in,
// counted again and entered in the ledger, all in that transaction; after a crash the tables hold the old chunk or the new.
//
// Run by hand, without a cluster, there is no epoch; an advisory lock keeps two such runs apart, and a job that a cluster
// has ever run is refused.
package warehouse
