package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
)

// peerRole is the login of the writers of systems that have no credentials of their own to hand out.
const peerRole = "bench"

// stage is the lab, its Postgres and the database's view of who writes. All systems use the same one, one at a time.
type stage struct {
	lab    *lab.Lab
	store  *lab.Metastore
	pool   *pgxpool.Pool
	writer string       // program
	runs   int          // that had a table
	ours   *lab.Cluster // of both duoflows; nil: neither was asked for yet
}

func newStage(ctx context.Context) (*stage, error) {
	s := &stage{}
	if err := s.build(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *stage) build(ctx context.Context) error {
	var err error
	if s.lab, err = lab.Up(ctx, lab.Options{Hosts: hosts}); err != nil {
		return err
	}
	if !s.lab.Net.Real() {
		return lab.ErrNoCut
	}
	if s.store, err = s.lab.StartMetastore(ctx, nil); err != nil {
		return err
	}
	if err := s.store.AddLogin(ctx, peerRole); err != nil {
		return err
	}
	if s.pool, err = pgxpool.New(ctx, s.store.Admin()); err != nil {
		return fmt.Errorf("connect as administrator: %w", err)
	}
	for _, sql := range []string{
		"CREATE SCHEMA bench", fmt.Sprintf(tableSQL, 0), "CREATE TABLE bench.rest (LIKE bench.run_0 INCLUDING ALL)", fmt.Sprintf(viewSQL, "rest"),
	} {
		if err := s.exec(ctx, sql); err != nil {
			return err
		}
	}
	s.writer, err = s.lab.Build(ctx, "./scripts/bench/writer")
	return err
}

func (s *stage) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if s.pool != nil {
		s.pool.Close()
	}
	if s.lab != nil {
		_ = s.lab.Down(ctx) // what is left is cleaned up at the next start
	}
}

// cluster is the one of both duoflows: a lab has one authority, and its Postgres one fence for the job.
func (s *stage) cluster(ctx context.Context) (*lab.Cluster, error) {
	if s.ours != nil {
		return s.ours, nil
	}
	var err error
	s.ours, err = s.lab.NewCluster(ctx, s.store, lab.ClusterOptions{
		Jobs: map[string]lab.Job{job: {Kind: "command", Command: []string{s.writer}}},
	})
	return s.ours, err
}

// peerDSN is the database as the peers' writers see it: one password for ever, as usual.
func (s *stage) peerDSN() string { return s.store.DSNOf(peerRole) }

// env is all that programs of the peers get.
func (s *stage) env(host string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "LANG=C.UTF-8", "BENCH_NODE=" + host, "BENCH_DSN=" + s.peerDSN()}
}

// Writers know one view, public.probe; what lies behind it is a table of its own for each run, and in between one that
// nobody reads. To exchange it the view has to be locked, so no row of a run is still to come afterwards.
const (
	tableSQL = `CREATE TABLE bench.run_%d (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
		node text NOT NULL, epoch bigint NOT NULL, pid int NOT NULL, seq bigint NOT NULL, role text NOT NULL)`
	viewSQL = `CREATE OR REPLACE VIEW public.probe AS SELECT node, epoch, pid, seq, role FROM bench.%s`
)

var freshSQL = []string{
	`DROP SEQUENCE IF EXISTS public.incarnation`,
	`CREATE SEQUENCE public.incarnation`,
	`GRANT USAGE ON SEQUENCE public.incarnation TO bench`,
	`GRANT SELECT, INSERT ON public.probe TO bench`,
	// The group of duoflow's epoch roles is there only when duoflow takes part.
	`DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'airflow') THEN
		GRANT SELECT, INSERT ON public.probe TO airflow; END IF; END $$`,
}

func (s *stage) exec(ctx context.Context, sql string) error {
	if _, err := s.pool.Exec(ctx, sql); err != nil {
		return fmt.Errorf("prepare table: %w", err)
	}
	return nil
}

// reset makes everything fresh for a system that is about to start. Nobody else may be connected any more.
func (s *stage) reset(ctx context.Context) error {
	if err := s.endSessions(ctx); err != nil {
		return err
	}
	for _, sql := range freshSQL {
		if err := s.exec(ctx, sql); err != nil {
			return err
		}
	}
	return s.fresh(ctx)
}

// table is where the rows of this run go.
func (s *stage) table() string { return fmt.Sprintf("bench.run_%d", s.runs) }

// fresh gives the next run its table, and begins to keep its commit order. Writers may be at work.
func (s *stage) fresh(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`,
		commitorder.Slot)
	if err != nil {
		return fmt.Errorf("drop the last run's commit order: %w", err)
	}
	if err := commitorder.Watch(ctx, s.pool); err != nil {
		return err
	}
	last := s.table()
	s.runs++
	for _, sql := range []string{
		fmt.Sprintf(tableSQL, s.runs), fmt.Sprintf(viewSQL, fmt.Sprintf("run_%d", s.runs)), "DROP TABLE " + last, "TRUNCATE bench.rest",
	} {
		if err := s.exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// finish ends the rows of this run: those that come later are of none.
func (s *stage) finish(ctx context.Context) error { return s.exec(ctx, fmt.Sprintf(viewSQL, "rest")) }

// endSessions ends what the dead of the last run left connected.
func (s *stage) endSessions(ctx context.Context) error {
	for {
		var left int
		err := s.pool.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND client_addr <> $1::inet AND client_addr IS NOT NULL
			AND NOT client_addr <<= '127.0.0.0/8'`, s.lab.Hub().Addr).Scan(&left)
		if err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		if left == 0 {
			return nil
		}
		if err := lab.Pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("end %d sessions: %w", left, err)
		}
	}
}

// owner is an incarnation of the writer.
type owner struct {
	Node  string
	Epoch uint64
}

// writing lists the incarnations among the last rows, committed within the last second; full tells whether both
// processes of the newest are among them.
func (s *stage) writing(ctx context.Context) (owners []owner, full bool, err error) {
	rows, err := s.pool.Query(ctx, `SELECT node, epoch, count(DISTINCT pid) FROM (
		SELECT node, epoch, pid, xmin FROM `+s.table()+` ORDER BY id DESC LIMIT 1000) AS t
		WHERE pg_xact_commit_timestamp(xmin) > clock_timestamp() - interval '1 second'
		GROUP BY node, epoch ORDER BY epoch`)
	if err != nil {
		return nil, false, fmt.Errorf("look who writes: %w", err)
	}
	var o owner
	var processes int
	_, err = pgx.ForEachRow(rows, []any{&o.Node, &o.Epoch, &processes}, func() error {
		owners, full = append(owners, o), processes == 2
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("look who writes: %w", err)
	}
	return owners, full, nil
}

// awaitSole waits until exactly one incarnation writes, with both its processes.
func (s *stage) awaitSole(ctx context.Context) (owner, error) {
	for {
		owners, full, err := s.writing(ctx)
		if err != nil {
			return owner{}, err
		}
		if len(owners) == 1 && full {
			return owners[0], nil
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return owner{}, fmt.Errorf("wait for a single writer, now %+v: %w", owners, err)
		}
	}
}

// awaitNewer waits for a row of a later incarnation, and reports whether there was one before the limit.
func (s *stage) awaitNewer(ctx context.Context, old uint64, limit time.Duration) (bool, error) {
	end := time.Now().Add(limit)
	for {
		var newer bool
		err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM (
			SELECT epoch FROM `+s.table()+` ORDER BY id DESC LIMIT 50) AS t WHERE epoch > $1)`, old).Scan(&newer)
		if err != nil {
			return false, fmt.Errorf("look for a new writer: %w", err)
		}
		if newer || time.Now().After(end) {
			return newer, nil
		}
		if err := lab.Pause(ctx, 20*time.Millisecond); err != nil {
			return false, err
		}
	}
}

// writerPID is the main process of the writer that committed last.
func (s *stage) writerPID(ctx context.Context) (int, error) {
	var pid int
	err := s.pool.QueryRow(ctx, `SELECT pid FROM `+s.table()+` WHERE role = 'main' ORDER BY id DESC LIMIT 1`).Scan(&pid)
	if err != nil {
		return 0, fmt.Errorf("find writer: %w", err)
	}
	return pid, nil
}

// read returns all rows in commit order, each with its commit time. That the table and the log hold the same is what
// makes them believable.
func (s *stage) read(ctx context.Context) ([]committed, error) {
	if err := s.finish(ctx); err != nil {
		return nil, err
	}
	order, err := commitorder.Read(ctx, s.pool, s.table())
	if err != nil {
		return nil, err
	}
	times, err := s.times(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]committed, 0, len(order))
	for _, r := range order {
		at, ok := times[r]
		if !ok {
			return nil, fmt.Errorf("compare log and table: %+v is not in the table", r)
		}
		out = append(out, committed{r, at})
	}
	if len(times) != len(order) {
		return nil, fmt.Errorf("compare log and table: %d rows against %d", len(order), len(times))
	}
	return out, nil
}

func (s *stage) times(ctx context.Context) (map[commitorder.Row]time.Time, error) {
	rows, err := s.pool.Query(ctx, `SELECT node, epoch, pid, seq, pg_xact_commit_timestamp(xmin) FROM `+s.table())
	if err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	times := map[commitorder.Row]time.Time{}
	var r commitorder.Row
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&r.Node, &r.Epoch, &r.PID, &r.Seq, &at}, func() error {
		if _, twice := times[r]; twice {
			return errors.New("a row is there twice")
		}
		times[r] = at
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	return times, nil
}
