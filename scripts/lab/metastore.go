package lab

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/pg"
)

// Names in the metastore.
const (
	Database = "airflow"       // Airflow's own
	Owner    = "airflow_owner" // login; owns the database and, after the migration, its tables
)

// Metastore is a Postgres server with Airflow's database, on the hub's address and on 127.0.0.1.
type Metastore struct {
	*pg.Server
	Host string // the address hosts use

	passwords map[string]string
}

// demoSQL makes the table that the demo's tasks write to, so that tasks that ran twice can be counted.
const demoSQL = `
CREATE SCHEMA demo;
CREATE TABLE demo.demo_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  run_id text NOT NULL, task_id text NOT NULL, map_index int NOT NULL, try_number int NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(), pid int NOT NULL);
GRANT USAGE ON SCHEMA demo TO demo_writer;
GRANT SELECT, INSERT ON demo.demo_log TO demo_writer;`

// StartMetastore starts Postgres with an empty database for Airflow, the roles Owner and demo_writer,
// and the demo's table. settings go to postgresql.conf; commit timestamps and logical decoding are on unless they say
// otherwise, because the order of commits is what tests look at.
func (l *Lab) StartMetastore(ctx context.Context, settings map[string]string) (*Metastore, error) {
	began := time.Now()
	all := map[string]string{"track_commit_timestamp": "on", "wal_level": "logical", "max_connections": "300"}
	for name, value := range settings {
		all[name] = value
	}
	dir := filepath.Join(l.Dir, "pg")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of postgres: %w", err)
	}
	host := l.Hub().Addr
	server, err := pg.Start(ctx, pg.Options{Dir: dir, Listen: []string{host, "127.0.0.1"}, Settings: all})
	if err != nil {
		return nil, err
	}
	l.onDown(server.Stop)
	m := &Metastore{Server: server, Host: host, passwords: map[string]string{}}
	if err := m.prepare(ctx); err != nil {
		return nil, err
	}
	l.logger.Info("postgres ready", "port", server.Port(), "took", time.Since(began))
	return m, nil
}

func (m *Metastore) prepare(ctx context.Context) error {
	for _, role := range []string{Owner, "demo_writer"} {
		if err := m.AddLogin(ctx, role); err != nil {
			return err
		}
	}
	if err := m.exec(ctx, m.Superuser(), "CREATE DATABASE "+Database+" OWNER "+Owner); err != nil {
		return err
	}
	return m.exec(ctx, m.Admin(), demoSQL)
}

// AddLogin creates a role that can log in with a random password; see DSNOf.
func (m *Metastore) AddLogin(ctx context.Context, role string) error {
	m.passwords[role] = rand.Text()
	return m.exec(ctx, m.Superuser(), fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'",
		pgx.Identifier{role}.Sanitize(), m.passwords[role]))
}

// DSNOf is Airflow's database as a URL for a role that the lab made.
func (m *Metastore) DSNOf(role string) string { return m.DSN(role, m.passwords[role], Database) }

// AddDatabase creates another database, of the superuser's.
func (m *Metastore) AddDatabase(ctx context.Context, name string) error {
	return m.exec(ctx, m.Superuser(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
}

// Admin is Airflow's database as a URL for the superuser.
func (m *Metastore) Admin() string { return m.AdminOf(Database) }

// AdminOf is any database of the server as a URL for the superuser.
func (m *Metastore) AdminOf(database string) string {
	u, err := url.Parse(m.Superuser())
	if err != nil {
		return "" // it is made by url.URL.String
	}
	u.Path = "/" + database
	return u.String()
}

// alchemy is DSNOf in SQLAlchemy's way of writing.
func (m *Metastore) alchemy(scheme, role string) string {
	return (&url.URL{
		Scheme: scheme, User: url.UserPassword(role, m.passwords[role]),
		Host: net.JoinHostPort(m.Host, strconv.Itoa(m.Port())), Path: "/" + Database,
	}).String()
}

func (m *Metastore) exec(ctx context.Context, dsn, sql string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to metastore: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("prepare metastore: %w", err)
	}
	return nil
}
