package fence

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// sqlState returns the server's code of an error, "" when it did not come from the server.
func sqlState(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// repeatable tells whether the same call may succeed later without anybody mending anything. What
// has no code is a connection that failed; whether the server did the work is then unknown, and
// asking again finds out.
func repeatable(err error) bool {
	code := sqlState(err)
	switch code {
	case "", lockNotAvailable,
		"25006", // read-only: the server became a standby
		"40001", "40P01",
		"53300", // too many connections
		"57014", // cancelled
		"XX000": // "tuple concurrently updated": somebody else altered the same role
		return true
	}
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "53")
}
