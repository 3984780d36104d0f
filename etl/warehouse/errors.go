package warehouse

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrFenced: the job has a newer epoch than ours, or our role may no longer write. Nothing was written, and nothing
	// will be: end.
	ErrFenced = errors.New("fenced: another epoch has taken over")
	// ErrClustered: a run by hand of a job that a cluster runs.
	ErrClustered = errors.New("this job is run by a cluster")
	// ErrBusy: somebody else runs the pipeline by hand.
	ErrBusy = errors.New("the pipeline is being run by hand already")
	// ErrReadOnly: a write by somebody who came to look.
	ErrReadOnly = errors.New("opened to look, not to write")
	// ErrShrunk: the chunk would have less than half of the strikes or tiles that are loaded.
	ErrShrunk = errors.New("the chunk has shrunk by more than half")
	// ErrMismatch: sums differ; nothing was written.
	ErrMismatch = errors.New("sums differ")
	// ErrCell: what is loaded has cells of another size.
	ErrCell = errors.New("cells of another size are loaded")
	// ErrNotSetUp: tables or views are missing.
	ErrNotSetUp = errors.New("the warehouse is not set up (duoetl init)")
	// ErrChanged: the tables are not as Setup makes them.
	ErrChanged = errors.New("the tables were changed; duoetl init makes what is missing, columns have to be restored by hand")
	// ErrFull: the server has no space left. What was loaded before is untouched.
	ErrFull = errors.New("the database server is out of disk space")
)

// Codes of Postgres, appendix A of its manual.
const (
	undefinedTable    = "42P01"
	undefinedSchema   = "3F000"
	noPrivilege       = "42501"
	noSuchRole        = "28000" // also: not permitted to log in
	wrongPassword     = "28P01"
	lockNotAvailable  = "55P03"
	diskFull          = "53100"
	adminShutdown     = "57P01"
	idleInTransaction = "25P03"
)

func sqlState(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// explain adds what can be done about an error of the server.
func explain(err error) error {
	switch sqlState(err) {
	case undefinedTable, undefinedSchema:
		return fmt.Errorf("%w: %w", ErrNotSetUp, err)
	case "42703", "42883", "42804", "23502", "42809", "0A000", "22003", "42P07", "42P10", "428C9", "55000":
		// no such column, no such function or none for its type, another type, null in a new column, not a table or view, a plan that no longer fits,
		// out of range, a table where a view has to be, no key, a generated column, a view that cannot be
		// written
		return fmt.Errorf("%w: %w", ErrChanged, err)
	case diskFull:
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// repeatable tells whether the same transaction may succeed later without anybody mending anything. An error without a
// code is a connection that failed; whether the server did the work is then unknown, and every write may be done twice.
func repeatable(err error) bool {
	code := sqlState(err)
	switch code {
	case "", lockNotAvailable, idleInTransaction,
		"25006",          // read-only: the server became a standby
		"40001", "40P01", // serialization, deadlock
		"53300", // too many connections
		"55006": // object in use
		return true
	}
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P")
}

// suspicious are errors that a role of an old epoch gets.
func suspicious(err error) bool {
	switch sqlState(err) {
	case "", adminShutdown, noPrivilege, noSuchRole, wrongPassword:
		return true
	}
	return false
}

// disarmed tells whether the server refuses the role as such.
func disarmed(err error) bool {
	switch sqlState(err) {
	case noPrivilege, noSuchRole, wrongPassword:
		return true
	}
	return false
}

// final errors are our own decisions: no other try changes them.
func final(err error) bool {
	for _, e := range []error{ErrFenced, ErrClustered, ErrBusy, ErrReadOnly, ErrShrunk, ErrMismatch, ErrCell, ErrNotSetUp} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
