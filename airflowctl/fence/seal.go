package fence

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Sealed is what Seal has done in one database.
type Sealed struct {
	Row   Row
	Roles []string // epoch roles that could log in, or had the group, and cannot any more; in the order of their epochs
	Ended int      // sessions of the job's epochs that were ended
}

// Seal shuts every epoch of a job: whoever holds credentials of one, of whatever age, may do nothing with them, and what runs ends. A server
// that was restored from a backup brings back the epoch of then, and the credentials that were taken back since are good again until the
// next take. So it is for an administrator, after a restore and before anybody is let in. It acts with adminDSN, whose role must be able to
// SET ROLE duoflow. It forgets of which life the row's taker was, so that nothing of a cluster is in its way afterwards, not even of one
// whose nodes were all lost: the next epoch is a new one in any case.
func Seal(ctx context.Context, adminDSN, job, group string) (Sealed, error) {
	if err := validateNames(group, job); err != nil {
		return Sealed{}, fmt.Errorf("seal fence: %w", err)
	}
	conn, err := pgx.Connect(ctx, adminDSN)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal fence: %w", err)
	}
	defer discard(conn)
	s, err := seal(ctx, conn, job, group)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal fence of job %s: %w", job, err)
	}
	return s, nil
}

// seal disarms in one transaction and ends sessions in another: a login in between would find its role shut, one before it is ended.
func seal(ctx context.Context, conn *pgx.Conn, job, group string) (s Sealed, err error) {
	if _, err := conn.Exec(ctx, "SET ROLE "+grantor); err != nil {
		return s, err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "SELECT f.epoch, f.node, f.token, f.at FROM duoflow.fence f WHERE f.job = $1 FOR UPDATE", job).
			Scan(&s.Row.Epoch, &s.Row.Node, &s.Row.Token, &s.Row.At)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("no row for job %s in duoflow.fence: run the set-up", job)
		}
		if err == nil {
			err = forgetLife(ctx, tx, job)
		}
		if err == nil {
			s.Roles, err = shut(ctx, tx, job, group)
		}
		return err
	})
	if err != nil {
		return s, err
	}
	return s, conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) FROM pg_catalog.pg_stat_activity a
		WHERE a.usesysid IN (SELECT r.id FROM duoflow.epoch_roles($1, $2) r)`, job, group).Scan(&s.Ended)
}

// forgetLife works on a set-up of before there were lives too: an old backup has one.
func forgetLife(ctx context.Context, tx pgx.Tx, job string) error {
	var lives bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'duoflow.fence'::regclass AND attname = 'life')").Scan(&lives)
	if err == nil && lives {
		_, err = tx.Exec(ctx, "UPDATE duoflow.fence f SET life = 0 WHERE f.job = $1", job)
	}
	return err
}

// shut disarms every epoch role that is of any use, and tells their names.
func shut(ctx context.Context, tx pgx.Tx, job, group string) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT r.name::text FROM duoflow.epoch_roles($1, $2) r JOIN pg_catalog.pg_roles a ON a.oid = r.id
		WHERE a.rolcanlogin OR pg_has_role(r.id, $2, 'MEMBER') ORDER BY r.epoch`, job, group)
	if err != nil {
		return nil, err
	}
	roles, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, role := range roles {
		if _, err := tx.Exec(ctx, "SELECT duoflow.disarm($1, $2)", group, role); err != nil {
			return nil, err
		}
	}
	return roles, nil
}
