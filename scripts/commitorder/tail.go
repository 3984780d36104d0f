package commitorder

import (
	"context"
	"fmt"
	"strings"
)

// Commit is a committed row and where the commit of its transaction stands in the log.
type Commit struct {
	Row
	LSN uint64
}

// Tail reads a commit order piece by piece; the server may forget what was read and kept.
type Tail struct {
	Table string // schema.name, as for Read
	// LSN of the last commit that was read: what comes again after a crash of the server is left out by it.
	LSN uint64
}

// Next returns what was committed since the last Next, in the order of the commits. It comes again, until Forget.
func (t *Tail) Next(ctx context.Context, db Database) ([]Commit, error) {
	lines, err := db.Query(ctx, `SELECT (lsn - '0/0')::bigint, data FROM pg_logical_slot_peek_changes($1, NULL, NULL, 'skip-empty-xacts', '1')
		WHERE data LIKE 'COMMIT%' OR data LIKE 'table ' || $2 || ': INSERT:%'`, Slot, t.Table)
	if err != nil {
		return nil, fmt.Errorf("read commit order: %w", err)
	}
	defer lines.Close()
	var all, open []Commit
	last := t.LSN
	for lines.Next() {
		var lsn int64
		var text string
		if err := lines.Scan(&lsn, &text); err != nil {
			return nil, fmt.Errorf("read commit order: %w", err)
		}
		if !strings.HasPrefix(text, "COMMIT") {
			r, ok := parse(text)
			if !ok {
				return nil, fmt.Errorf("read commit order: not understood: %s", text)
			}
			open = append(open, Commit{Row: r})
			continue
		}
		if at := uint64(lsn); at > last {
			for i := range open {
				open[i].LSN = at
			}
			all, last = append(all, open...), at
		}
		open = open[:0]
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read commit order: %w", err)
	}
	t.LSN = last
	return all, nil
}

// Forget lets the server throw away what Next has returned, which the caller has kept.
func (t *Tail) Forget(ctx context.Context, db Database) error {
	if t.LSN == 0 {
		return nil
	}
	lsn := fmt.Sprintf("%X/%X", t.LSN>>32, t.LSN&0xffffffff)
	// A slot cannot be moved back, which is what it would be to move it to where it is.
	_, err := db.Exec(ctx, `SELECT pg_replication_slot_advance($1, $2::pg_lsn) FROM pg_replication_slots
		WHERE slot_name = $1 AND confirmed_flush_lsn < $2::pg_lsn`, Slot, lsn)
	if err != nil {
		return fmt.Errorf("forget commit order: %w", err)
	}
	return nil
}
