// Package fence makes one epoch of a job effective in its database, and every older one powerless.
//
// Each grant gets a Postgres role of its own, df_<group>_<job>_e<epoch>, which is a member of the
// group role that holds the rights. Take moves the job's row in duoflow.fence to the new epoch,
// takes the group and the login from every older role and makes the new one, in one statement.
// Drain then ends what the older roles still have open. Once it has returned, every commit of an
// older epoch lies before every commit of the new one. No clock takes part in that.
//
// How and why: DESIGN.md beside this file. The server's part is functions.sql.
package fence
