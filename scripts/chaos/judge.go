package main

import (
	"context"
	"fmt"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/probe"
)

// judge compares the commit order with the promise, and with the table, so that an oracle that reads nothing fails.
func (s *stage) judge(ctx context.Context, r *report) error {
	s.thieves.stop()
	// Nobody may write while the two are compared.
	if _, err := s.Pool.Exec(ctx, `REVOKE INSERT ON public.probe FROM airflow`); err != nil {
		return fmt.Errorf("end the writing: %w", err)
	}
	if err := lab.Pause(ctx, 200*time.Millisecond); err != nil { // statements that had their permission already
		return err
	}
	rows, err := commitorder.Read(ctx, s.Pool, probe.Table)
	if err != nil {
		return err
	}
	var inTable int
	if err := s.Pool.QueryRow(ctx, `SELECT count(*) FROM public.probe`).Scan(&inTable); err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	r.Order = commitorder.Examine(rows)
	if inTable != len(rows) || len(rows) == 0 {
		return fmt.Errorf("commit order holds %d rows, the table %d: the oracle cannot be trusted", len(rows), inTable)
	}
	return nil
}
