package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// Config says what is read where.
type Config struct {
	// DSN logs in as somebody who may read: pg_read_all_data and pg_read_all_stats are enough for everything, a fencer's login for
	// all but Airflow's tables.
	DSN        string
	Job, Group string // as in package fence
	Airflow    bool   // read Airflow's tables too, if they are there
}

const (
	// secondLook lies between two looks at the sessions. A take ends older ones within less, and they are not to be reported.
	secondLook = time.Second
	// goodbye bounds the end of the connection.
	goodbye = time.Second
)

// Read collects the evidence and changes nothing: it reads in one read-only transaction, and the sessions after it. What cannot be
// read is named in Unseen; the error is for what nothing can be said without.
func Read(ctx context.Context, config Config) (Evidence, error) {
	login, err := pgx.ParseConfig(config.DSN)
	if err != nil {
		return Evidence{}, errors.New("read ledger: unusable connection string") // err quotes it
	}
	login.RuntimeParams["application_name"] = "duoflow/" + config.Job + "/audit"
	conn, err := pgx.ConnectConfig(ctx, login)
	if err != nil {
		return Evidence{}, fmt.Errorf("read ledger: %w", err)
	}
	defer leave(conn)
	r := &reader{config: config, conn: conn}
	if err := r.read(ctx); err != nil {
		return Evidence{}, fmt.Errorf("read ledger: %w", err)
	}
	return r.found, nil
}

func leave(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = conn.Close(ctx) // it has only read
}

type reader struct {
	config Config
	conn   *pgx.Conn
	found  Evidence
	// roles are the epochs of the job's roles, by their ids.
	roles map[uint32]uint64
}

func (r *reader) read(ctx context.Context) error {
	if err := r.actAsReader(ctx); err != nil {
		return err
	}
	var home string // schema of Airflow's tables
	err := r.conn.QueryRow(ctx, `SELECT coalesce((SELECT n.nspname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relname = 'task_instance' AND c.relkind IN ('r', 'p') AND pg_catalog.pg_table_is_visible(c.oid)), '')`).Scan(&home)
	if err != nil {
		return err
	}
	picture := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, r.conn, picture, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog"); err != nil {
			return err
		}
		if err := r.readFence(ctx, tx); err != nil {
			return err
		}
		return r.readAirflow(ctx, tx, home)
	})
	if err != nil {
		return err
	}
	return r.readSessions(ctx)
}

// actAsReader becomes duoflow where the login itself may not read the ledger: a fencer does not inherit.
func (r *reader) actAsReader(ctx context.Context) error {
	var exists, readable, fencer bool
	err := r.conn.QueryRow(ctx, `
		WITH wanted AS (SELECT c.oid, c.relnamespace FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		  WHERE n.nspname = 'duoflow' AND c.relname IN ('fence', 'event'))
		SELECT count(*) = 2, coalesce(bool_and(has_table_privilege(oid, 'SELECT') AND has_schema_privilege(relnamespace, 'USAGE')), false),
		  coalesce((SELECT pg_has_role(session_user, r.oid, 'MEMBER') FROM pg_catalog.pg_roles r WHERE r.rolname = 'duoflow'), false)
		FROM wanted`).Scan(&exists, &readable, &fencer)
	switch {
	case err != nil:
		return err
	case !exists:
		return errors.New("there is no ledger in this database: no schema duoflow with tables fence and event")
	case readable:
		return nil
	case !fencer:
		return errors.New("this login may not read schema duoflow: use one that is granted pg_read_all_data and pg_read_all_stats, or a fencer's")
	}
	_, err = r.conn.Exec(ctx, "SET ROLE duoflow")
	return err
}

func (r *reader) unseen(what, format string, args ...any) {
	r.found.Unseen = append(r.found.Unseen, Unseen{What: what, Why: fmt.Sprintf(format, args...)})
}

func (r *reader) readFence(ctx context.Context, tx pgx.Tx) error {
	e := &r.found
	e.Job, e.Group = r.config.Job, r.config.Group
	var group, standby bool
	err := tx.QueryRow(ctx, `SELECT f.epoch, f.node, f.at, clock_timestamp(), pg_is_in_recovery(),
		  EXISTS (SELECT 1 FROM pg_roles r WHERE r.rolname = $2)
		FROM duoflow.fence f WHERE f.job = $1`, e.Job, e.Group).Scan(&e.Row.Epoch, &e.Row.Node, &e.Row.At, &e.At, &standby, &group)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("job %q has no fence row in this database", e.Job)
	case err != nil:
		return err
	case !group:
		return fmt.Errorf("there is no role %q: give the group of job %s", e.Group, e.Job)
	case standby:
		r.unseen("sessions", "this server is a standby, which knows of its own sessions only")
	}
	rows, err := tx.Query(ctx, "SELECT id, epoch, node, kind, at FROM duoflow.event WHERE job = $1 ORDER BY id", e.Job)
	if err != nil {
		return err
	}
	if e.Events, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Event]); err != nil {
		return err
	}
	return r.readRoles(ctx, tx)
}

// readRoles reads memberships from the table and not by pg_has_role, which shows the present and not the picture of the transaction.
func (r *reader) readRoles(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		WITH RECURSIVE member(id) AS (
		  SELECT g.oid FROM pg_roles g WHERE g.rolname = $1
		UNION
		  SELECT m.member FROM pg_auth_members m JOIN member ON m.roleid = member.id
		)
		SELECT r.rolname::text, r.oid, r.rolcanlogin, r.oid IN (SELECT id FROM member)
		FROM pg_roles r WHERE starts_with(r.rolname::text, format('df_%s_%s_e', $1::text, $2::text))`, r.config.Group, r.config.Job)
	if err != nil {
		return err
	}
	r.roles = map[uint32]uint64{}
	var role Role
	var id uint32
	_, err = pgx.ForEachRow(rows, []any{&role.Name, &id, &role.Login, &role.Member}, func() error {
		group, job, epoch, ok := fence.ParseRole(role.Name)
		if ok && group == r.config.Group && job == r.config.Job {
			role.Epoch, r.roles[id] = epoch, epoch
			r.found.Roles = append(r.found.Roles, role)
		}
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(r.found.Roles, func(a, b Role) int { return int(int64(a.Epoch) - int64(b.Epoch)) })
	own := r.found.Row.Epoch
	if own > 0 && !slices.ContainsFunc(r.found.Roles, func(role Role) bool { return role.Epoch == own }) {
		r.unseen("roles", "the row's own role %s is not there: was the database restored on another server, or is %s not the job's group?",
			fence.RoleName(r.config.Group, r.config.Job, own), r.config.Group)
	}
	return nil
}

// readSessions keeps what two looks show. A session or prepared transaction that goes on for so long after the picture was taken is none
// that a take is just about to end.
func (r *reader) readSessions(ctx context.Context) error {
	sessions, prepared, err := r.look(ctx)
	if err != nil || len(sessions)+len(prepared) == 0 {
		return err
	}
	timer := time.NewTimer(secondLook)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	again, preparedAgain, err := r.look(ctx)
	if err != nil {
		return err
	}
	for _, s := range again {
		if slices.ContainsFunc(sessions, func(o Session) bool { return o.PID == s.PID && o.Since.Equal(s.Since) }) {
			r.found.Sessions = append(r.found.Sessions, s)
		}
	}
	for _, p := range preparedAgain {
		if slices.Contains(prepared, p) {
			r.found.Prepared = append(r.found.Prepared, p)
		}
	}
	return nil
}

func (r *reader) look(ctx context.Context) ([]Session, []Prepared, error) {
	rows, err := r.conn.Query(ctx, `SELECT a.pid, a.usesysid, coalesce(a.backend_start, to_timestamp(0)), coalesce(a.state, '')
		FROM pg_catalog.pg_stat_activity a WHERE a.usesysid IS NOT NULL ORDER BY a.pid`)
	if err != nil {
		return nil, nil, err
	}
	var sessions []Session
	var s Session
	var role uint32
	_, err = pgx.ForEachRow(rows, []any{&s.PID, &role, &s.Since, &s.State}, func() error {
		if epoch, ours := r.roles[role]; ours {
			s.Epoch = epoch
			sessions = append(sessions, s)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var prepared []Prepared
	var name, owner string
	if rows, err = r.conn.Query(ctx, "SELECT x.gid, x.owner::text FROM pg_catalog.pg_prepared_xacts x WHERE x.database = current_database()"); err != nil {
		return nil, nil, err
	}
	_, err = pgx.ForEachRow(rows, []any{&name, &owner}, func() error {
		group, job, epoch, ok := fence.ParseRole(owner)
		if ok && group == r.config.Group && job == r.config.Job {
			prepared = append(prepared, Prepared{Name: name, Epoch: epoch})
		}
		return nil
	})
	return sessions, prepared, err
}
