// Package commitorder is the oracle outside the system: it reads from Postgres's write-ahead log in which order rows
// were committed, and judges that order. Logical decoding gives transactions in the order of their commit records; no
// clock has a part in it, nor has any code of duoflow.
package commitorder

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Row is one committed row of a table that says under which epoch it was written.
type Row struct {
	Node  string
	Epoch uint64
	// PID is the writer's; below 0 for one that writes with stolen credentials.
	PID int64
	Seq int64
}

// Verdict is what a commit order says.
type Verdict struct {
	Rows       int `json:"rows"`
	StolenRows int `json:"stolen_rows"`
	Epochs     int `json:"epochs"`
	// Stale are rows committed by an old epoch after the first commit of a later one.
	Stale int `json:"stale"`
	// Shared are rows of an epoch by another node than the first that wrote under it.
	Shared int `json:"shared"`
	// Twice are rows that appear more than once.
	Twice int `json:"twice"`
	// Example describes one violation; empty when there is none.
	Example string `json:"example,omitempty"`
}

// Sound reports whether the order keeps the promise.
func (v Verdict) Sound() bool { return v.Stale == 0 && v.Shared == 0 && v.Twice == 0 }

// Examine goes through a commit order once.
func Examine(rows []Row) Verdict {
	v := Verdict{Rows: len(rows)}
	owner := map[uint64]string{}
	seen := map[Row]bool{}
	var top uint64
	for _, r := range rows {
		if r.PID < 0 {
			v.StolenRows++
		}
		if r.Epoch < top {
			v.Stale++
			v.Example = fmt.Sprintf("%+v committed after epoch %d had", r, top)
		}
		top = max(top, r.Epoch)
		if first, ok := owner[r.Epoch]; !ok {
			owner[r.Epoch] = r.Node
		} else if first != r.Node {
			v.Shared++
			v.Example = fmt.Sprintf("%+v, but epoch %d was of %s", r, r.Epoch, first)
		}
		if r.PID > 0 && seen[r] {
			v.Twice++
			v.Example = fmt.Sprintf("%+v committed twice", r)
		}
		seen[r] = true
	}
	v.Epochs = len(owner)
	return v
}

// Database is a connection of an administrator, or a pool of them.
type Database interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Slot is the name of the replication slot that keeps the log from the moment Watch was called.
const Slot = "commit_order"

// Watch begins to keep the commit order. The server needs wal_level=logical.
func Watch(ctx context.Context, db Database) error {
	if _, err := db.Exec(ctx, `SELECT pg_create_logical_replication_slot($1, 'test_decoding')`, Slot); err != nil {
		return fmt.Errorf("keep commit order: %w", err)
	}
	return nil
}

// Read returns the committed rows of one table (schema.name) since Watch. The table has the columns node text,
// epoch bigint, pid integer and seq bigint, in this order, among its others.
func Read(ctx context.Context, db Database, table string) ([]Row, error) {
	lines, err := db.Query(ctx, `SELECT data FROM pg_logical_slot_peek_changes($1, NULL, NULL)
		WHERE data LIKE 'table ' || $2 || ': INSERT:%'`, Slot, table)
	if err != nil {
		return nil, fmt.Errorf("read commit order: %w", err)
	}
	defer lines.Close()
	var rows []Row
	for lines.Next() {
		var text string
		if err := lines.Scan(&text); err != nil {
			return nil, fmt.Errorf("read commit order: %w", err)
		}
		r, ok := parse(text)
		if !ok {
			return nil, fmt.Errorf("read commit order: not understood: %s", text)
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read commit order: %w", err)
	}
	return rows, nil
}

// decoded matches an insert as test_decoding writes it.
var decoded = regexp.MustCompile(
	` node\[text\]:'([^']*)' epoch\[bigint\]:(\d+) pid\[integer\]:(-?\d+) seq\[bigint\]:(\d+)(?: |$)`)

func parse(text string) (Row, bool) {
	m := decoded.FindStringSubmatch(text)
	if m == nil {
		return Row{}, false
	}
	r := Row{Node: m[1]}
	var errs [3]error
	r.Epoch, errs[0] = strconv.ParseUint(m[2], 10, 64)
	r.PID, errs[1] = strconv.ParseInt(m[3], 10, 64)
	r.Seq, errs[2] = strconv.ParseInt(m[4], 10, 64)
	return r, errs == [3]error{}
}
