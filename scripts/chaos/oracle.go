package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// row is one committed row, in commit order.
type row struct {
	node  string
	epoch uint64
	pid   int64
	seq   int64
}

// verdict is what the commit order says. It is computed from rows alone, so that it can be tested on made-up ones.
type verdict struct {
	Rows, StolenRows int
	Epochs           int
	// Stale are rows committed by an old epoch after the first commit of a later one.
	Stale int
	// Shared are epochs under which more than one node has written.
	Shared int
	// Twice are rows that appear more than once.
	Twice   int
	Example string `json:",omitempty"`
}

// examine goes through the commit order once.
func examine(rows []row) verdict {
	v := verdict{Rows: len(rows)}
	owner := map[uint64]string{}
	seen := map[row]bool{}
	var top uint64
	for _, r := range rows {
		if r.pid < 0 {
			v.StolenRows++
		}
		if r.epoch < top {
			v.Stale++
			v.Example = fmt.Sprintf("%+v committed after epoch %d had", r, top)
		}
		top = max(top, r.epoch)
		if first, ok := owner[r.epoch]; !ok {
			owner[r.epoch] = r.node
		} else if first != r.node {
			v.Shared++
			v.Example = fmt.Sprintf("%+v, but epoch %d was of %s", r, r.epoch, first)
		}
		if r.pid > 0 && seen[r] {
			v.Twice++
			v.Example = fmt.Sprintf("%+v committed twice", r)
		}
		seen[r] = true
	}
	v.Epochs = len(owner)
	return v
}

// decoded matches an insert as test_decoding writes it.
var decoded = regexp.MustCompile(`^table public\.probe: INSERT: .*node\[text\]:'([a-z0-9-]+)' epoch\[bigint\]:(\d+) pid\[integer\]:(-?\d+) seq\[bigint\]:(\d+) `)

// commitOrder reads every committed row from the write-ahead log. Logical decoding gives transactions in the order of
// their commit records, which no clock has a part in.
func commitOrder(ctx context.Context, conn *pgx.Conn) ([]row, error) {
	lines, err := conn.Query(ctx, `SELECT data FROM pg_logical_slot_peek_changes('oracle', NULL, NULL)`)
	if err != nil {
		return nil, fmt.Errorf("read commit order: %w", err)
	}
	defer lines.Close()
	var rows []row
	for lines.Next() {
		var text string
		if err := lines.Scan(&text); err != nil {
			return nil, fmt.Errorf("read commit order: %w", err)
		}
		if m := decoded.FindStringSubmatch(text); m != nil {
			r := row{node: m[1]}
			r.epoch, _ = strconv.ParseUint(m[2], 10, 64) // the pattern admits digits only
			r.pid, _ = strconv.ParseInt(m[3], 10, 64)
			r.seq, _ = strconv.ParseInt(m[4], 10, 64)
			rows = append(rows, r)
		}
	}
	return rows, lines.Err()
}

// judge compares the commit order with the promise, and with the table, so that an oracle that reads nothing fails.
func (s *stage) judge(ctx context.Context, r *report) error {
	s.thieves.stop()
	conn, err := pgx.Connect(ctx, s.store.Admin())
	if err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	// Nobody may write while the two are compared.
	if _, err := conn.Exec(ctx, `REVOKE INSERT ON public.probe FROM airflow`); err != nil {
		return fmt.Errorf("end the writing: %w", err)
	}
	if err := pause(ctx, 200*time.Millisecond); err != nil { // statements that had their permission already
		return err
	}
	rows, err := commitOrder(ctx, conn)
	if err != nil {
		return err
	}
	var inTable int
	if err := conn.QueryRow(ctx, `SELECT count(*) FROM public.probe`).Scan(&inTable); err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	r.Order = examine(rows)
	if inTable != len(rows) || len(rows) == 0 {
		return fmt.Errorf("commit order holds %d rows, the table %d: the oracle cannot be trusted", len(rows), inTable)
	}
	return nil
}
