package pg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// replicationPoll is how often a state of replication is looked at.
const replicationPoll = 10 * time.Millisecond

// Standby copies the running server and starts the copy as its streaming standby, on a free port
// and in a temporary directory of its own. It returns when the standby streams. With synchronous set, every
// commit of the server waits from then on until this standby (and each earlier synchronous one) has
// written it to its log. A standby may be killed, restarted and promoted; Stop it like any server.
func (s *Server) Standby(ctx context.Context, synchronous bool) (*Server, error) {
	return s.StandbyOn(ctx, 0, synchronous)
}

// StandbyOn is Standby on a port of choice, as one that clients know of; 0 = a free one.
func (s *Server) StandbyOn(ctx context.Context, port int, synchronous bool) (*Server, error) {
	standby, err := prepare(Options{Listen: s.listen, Port: port, Settings: s.settings, Bin: s.bin})
	if err != nil {
		return nil, err
	}
	standby.password = s.password
	if err := s.follow(ctx, standby, synchronous); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("make standby: %w", err), standby.Stop(stop))
	}
	return standby, nil
}

func (s *Server) follow(ctx context.Context, standby *Server, synchronous bool) error {
	conn, err := pgx.Connect(ctx, s.Superuser())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	name := "standby_" + strings.ReplaceAll(filepath.Base(standby.dir), "-", "_")
	// The slot keeps the log from the copy on, however late the standby comes.
	if _, err := conn.Exec(ctx, "SELECT pg_create_physical_replication_slot($1, true)", name); err != nil {
		return err
	}
	if err := s.backup(ctx, conn, standby, name); err != nil {
		return err
	}
	if err := standby.startAnywhere(ctx); err != nil {
		return err
	}
	state := "streaming"
	if synchronous {
		s.syncNames = append(s.syncNames, name)
		if err := setSynchronous(ctx, conn, s.syncNames); err != nil {
			return err
		}
		state = "sync"
	}
	const streams = "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = $1 AND $2 IN (state, sync_state)"
	return await(ctx, conn, streams, name, state)
}

// backup copies the data between the two calls that make a copy consistent. pg_basebackup does the
// same, but not every build of the server brings it.
func (s *Server) backup(ctx context.Context, conn *pgx.Conn, standby *Server, name string) error {
	start, stop := "SELECT pg_backup_start($1, true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if s.version < 15 {
		start, stop = "SELECT pg_start_backup($1, true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	if _, err := conn.Exec(ctx, start, name); err != nil {
		return fmt.Errorf("begin copy: %w", err)
	}
	if err := standby.copyFrom(s.data); err != nil {
		return err
	}
	var label string
	if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
		return fmt.Errorf("end copy: %w", err)
	}
	primary := fmt.Sprintf("host=%s port=%d user=%s password=%s application_name=%s sslmode=disable",
		s.host(), s.port, superuser, s.password, name)
	text := fmt.Sprintf("%sprimary_conninfo = '%s'\nprimary_slot_name = '%s'\nwal_retrieve_retry_interval = '100ms'\n", standby.configuration(), primary, name)
	return errors.Join(
		standby.writeOwned("backup_label", []byte(label)),
		standby.writeOwned("standby.signal", nil),
		standby.writeOwned("postgresql.auto.conf", []byte(text)))
}

// copyFrom copies a data directory that is in use: files may vanish meanwhile. Left out is what is
// the other server's alone, and the log of changes, which the standby streams.
func (s *Server) copyFrom(data string) error {
	return filepath.WalkDir(data, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("copy data: %w", err)
		}
		name, err := filepath.Rel(data, path)
		if err != nil {
			return fmt.Errorf("copy data: %w", err)
		}
		if leftOut(name, entry.IsDir()) {
			return nil
		}
		if err := s.copyEntry(path, name, entry.IsDir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("copy data: %w", err)
		}
		return nil
	})
}

func leftOut(name string, dir bool) bool {
	if name == "postmaster.pid" || name == "postmaster.opts" || strings.HasPrefix(filepath.Base(name), "pgsql_tmp") {
		return true
	}
	top, _, below := strings.Cut(name, "/")
	switch top {
	case "pg_wal":
		return below && !dir
	case "pg_replslot", "pg_dynshmem", "pg_notify", "pg_stat_tmp", "pg_subtrans", "pg_snapshots", "pg_serial":
		return below
	}
	return false
}

func (s *Server) copyEntry(from, name string, dir bool) error {
	to := filepath.Join(s.data, name)
	if dir {
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		return s.account.own(to)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return s.writeOwned(name, content)
}

func setSynchronous(ctx context.Context, conn *pgx.Conn, names []string) error {
	// ALTER SYSTEM takes no parameters; the names are our own.
	sql := fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%d (%s)'", len(names), strings.Join(names, ", "))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "SELECT pg_reload_conf()")
	return err
}

// await polls until the query says true.
func await(ctx context.Context, conn *pgx.Conn, query string, args ...any) error {
	for {
		var reached bool
		if err := conn.QueryRow(ctx, query, args...).Scan(&reached); err != nil {
			return err
		}
		if reached {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for replication: %w", ctx.Err())
		case <-time.After(replicationPoll):
		}
	}
}

// Promote makes a standby a primary and returns when it takes writes. The old primary must be dead:
// nothing here keeps it from taking writes too.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.Superuser())
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "SELECT pg_promote(false)"); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := await(ctx, conn, "SELECT NOT pg_is_in_recovery()"); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	return nil
}
