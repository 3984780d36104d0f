// Package metastore is a model of one Postgres server, as far as the fence and what it fences can tell it from a real one:
// roles and memberships, logins, sessions, transactions, row locks, signals, the log, crash, failover and restore.
//
// It is pure. Nothing happens by itself: a client's bytes arrive by Open, Send and Hangup; a backend goes on by one unit of
// work at each Step; a length of time is over when Expire says so. Who goes on first, how long anything takes, and
// whether a signal is noticed before or after the next unit (Step or StepBlind) is the caller's choice, so one seed decides everything.
// Timed makes these choices from a source of delays. What the clients hear lies in Replies.
//
// conform_test.go plays the same random operations on this model and on a real server and compares. Where they differ the
// server is right; what was learned that way is in DESIGN.md.
//
// Coarser than the real thing:
//
//   - A statement is a value of a type here, not SQL. Rows have one form, Row; Key is the primary key.
//   - A unit of work is atomic. Real backends interleave within one, where only locks of microseconds are held.
//   - There is one database. Rights on tables are given at the start and stay; only roles, memberships and rows change.
//   - Row locks are FOR SHARE and FOR UPDATE; there are no foreign keys, so the two between them make no difference.
//   - No savepoints, no SERIALIZABLE, no SET SESSION AUTHORIZATION, no VALID UNTIL, no connection limit per role.
//   - A client that does not read its answers never makes its backend wait.
//   - The log has a record for a commit and for a prepared transaction, nothing else; an LSN counts records.
package metastore
