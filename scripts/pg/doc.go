// Package pg starts throwaway Postgres servers for tests, the demo and the robustness runs.
//
// A server is a real postmaster over a fresh data directory: SCRAM passwords, TCP only, no Unix
// socket. It is made to be killed: Kill is a power cut for the processes, Restart brings the same
// data back, and a server never outlives the process that started it.
//
// Standby copies a running server into a real streaming standby, synchronous if asked for, and Promote
// makes that the primary.
//
// fsync is off unless Options.Settings says otherwise. That loses nothing when processes are killed
// (the kernel keeps their pages); only a crash of the machine would, and then the data is not wanted.
package pg
