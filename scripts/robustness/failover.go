package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/lab"
	"github.com/duoflow/duoflow/scripts/pg"
	"github.com/duoflow/duoflow/scripts/probe"
)

// loss is what the standby of a failover has not got of the primary's last commits.
type loss int

const (
	lossless  loss = iota // it is synchronous
	lossy                 // the last moments
	fenceless             // the last moments, in which the job has moved
)

// twoServers makes the daemons, and so the job, know two addresses of the metastore, of which one takes writes at a time.
func (s *stage) twoServers() error {
	port, err := freePort(s.Store.Host)
	if err != nil {
		return err
	}
	s.spare = port
	both := fmt.Sprintf("%s,%s", s.Store.Address(), net.JoinHostPort(s.Store.Host, strconv.Itoa(port)))
	s.configure = append(s.configure, func(_ string, config map[string]any) {
		job, _ := config["jobs"].(map[string]any)[probe.Job].(map[string]any)
		fence, ok := job["fence"].(map[string]any)
		if !ok {
			return // a witness has none
		}
		fence["dsn"] = strings.Replace(fence["dsn"].(string), s.Store.Address(), both, 1) + "&target_session_attrs=read-write"
	})
	return nil
}

// freePort finds one that no outgoing connection is given by chance.
func freePort(host string) (int, error) {
	for port := 20000; port < 30000; port++ {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("find a free port: none")
}

// failOver kills the metastore's primary and promotes a standby, at the other address.
func failOver(what loss) beginning {
	return func(ctx context.Context, s *stage, _ *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
		old := s.Store.Server
		next, err := s.standby(ctx, old, what == lossless)
		if err != nil {
			return nil, err
		}
		mend, err := s.fall(ctx, what, next, dice)
		if err != nil {
			return mend, errors.Join(err, next.Stop(context.WithoutCancel(ctx)))
		}
		if err := s.promote(ctx, next); err != nil {
			return mend, err
		}
		s.Store.Server, s.spare = next, old.Port()
		return func(ctx context.Context) error {
			err := s.bury(ctx, old, what)
			if mend != nil {
				err = errors.Join(err, mend(ctx))
			}
			return err
		}, nil
	}
}

// standby makes one at the spare address.
func (s *stage) standby(ctx context.Context, primary *pg.Server, synchronous bool) (*pg.Server, error) {
	var next *pg.Server
	var err error
	for range 5 {
		if next, err = primary.StandbyOn(ctx, s.spare, synchronous); err == nil || ctx.Err() != nil {
			return next, err
		}
		if err := lab.Pause(ctx, settleFor); err != nil { // another program may have had the port for a moment
			return nil, err
		}
	}
	return nil, err
}

// fall kills the primary; before that, the standby of one that is to lose something stops receiving.
func (s *stage) fall(ctx context.Context, what loss, next *pg.Server, dice *rand.Rand) (mend func(context.Context) error, err error) {
	if err := lab.Pause(ctx, between(dice, 0, settleFor)); err != nil {
		return nil, err
	}
	if what == lossless {
		return nil, s.Store.Kill()
	}
	if err := next.Kill(); err != nil {
		return nil, err
	}
	if what == fenceless {
		if mend, err = s.moveAway(ctx); err != nil {
			return mend, err
		}
	} else if err := lab.Pause(ctx, between(dice, 0, settleFor)); err != nil {
		return nil, err
	}
	if err := s.Store.Kill(); err != nil {
		return mend, err
	}
	return mend, next.Restart(ctx)
}

// moveAway freezes the host with the job until another epoch writes: after the failover nobody knows of that epoch but its own
// host, and the old one thaws with a role that was never taken from it. The job may be elsewhere than when the trial began.
func (s *stage) moveAway(ctx context.Context) (func(context.Context) error, error) {
	host, before, err := s.newestWriting(ctx)
	if err != nil {
		return nil, err
	}
	n := s.Cluster.Nodes[host]
	thaw := s.thawer(n)
	if err := s.freeze(ctx, n); err != nil {
		return thaw, err
	}
	for limit := time.Now().Add(2 * surelyNoticed); ; {
		_, now, err := s.newestWriting(ctx)
		if err != nil || now > before {
			return thaw, err
		}
		if time.Now().After(limit) {
			return thaw, nil // the other may be down; then this is a failover that has lost the last moments only
		}
		if err := lab.Pause(ctx, settleFor/50); err != nil {
			return thaw, err
		}
	}
}

// newestWriting is the newest epoch under which the job has committed, and its host.
func (s *stage) newestWriting(ctx context.Context) (host string, epoch uint64, err error) {
	err = s.Pool.QueryRow(ctx, `SELECT node, epoch FROM public.probe WHERE pid > 0 ORDER BY id DESC LIMIT 1`).Scan(&host, &epoch)
	if err != nil {
		return "", 0, fmt.Errorf("read the newest epoch: %w", err)
	}
	return host, epoch, nil
}

// promote makes a standby the primary. It takes writes when the order of its commits is kept, from the first one on.
func (s *stage) promote(ctx context.Context, next *pg.Server) error {
	if err := onServer(ctx, next.Superuser(), `ALTER SYSTEM SET default_transaction_read_only = on`, `SELECT pg_reload_conf()`); err != nil {
		return err
	}
	if err := awaitReadOnly(ctx, next); err != nil {
		return err
	}
	if err := next.Promote(ctx); err != nil {
		return err
	}
	s.Store.Server = next
	s.Pool.Close()
	var err error
	if s.Pool, err = pgxpool.New(ctx, s.Store.Admin()); err != nil {
		return fmt.Errorf("connect to the new primary: %w", err)
	}
	if err := commitorder.Watch(ctx, s.Pool); err != nil {
		return err
	}
	err = onServer(ctx, next.Superuser(), `ALTER SYSTEM RESET default_transaction_read_only`, `SELECT pg_reload_conf()`)
	s.Pool.Reset() // its sessions began when nothing could be written
	return err
}

// awaitReadOnly waits until a new session is told that it may write nothing, by the setting and not only because of recovery.
func awaitReadOnly(ctx context.Context, next *pg.Server) error {
	for {
		var on string
		err := withServer(ctx, next.Superuser(), func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, `SHOW default_transaction_read_only`).Scan(&on)
		})
		if err != nil || on == "on" {
			return err
		}
		if err := lab.Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

func onServer(ctx context.Context, dsn string, statements ...string) error {
	return withServer(ctx, dsn, func(conn *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("prepare the new primary: %w", err)
			}
		}
		return nil
	})
}

func withServer(ctx context.Context, dsn string, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to the standby: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return do(conn)
}

// bury reads the last commits of a dead primary, where no client finds it, and tells those that are left from those that are
// lost. What is left has to be the beginning.
func (s *stage) bury(ctx context.Context, old *pg.Server, what loss) error {
	if err := old.RestartElsewhere(ctx); err != nil {
		return fmt.Errorf("look into the old primary: %w", err)
	}
	tail := s.tail
	var last []commitorder.Commit
	err := withServer(ctx, (&lab.Metastore{Server: old}).Admin(), func(conn *pgx.Conn) error {
		var err error
		last, err = tail.Next(ctx, conn)
		return err
	})
	if err := errors.Join(err, old.Stop(ctx)); err != nil {
		return err
	}
	left, err := s.leftOf(ctx, last)
	if err != nil {
		return err
	}
	remark := " " + lostSync
	if what != lossless {
		remark = " " + lostAsync
	}
	s.kept = append(s.kept, last[:left]...)
	return errors.Join(s.out.writeCommits(commitsName, last[:left], ""), s.out.writeCommits(lostName, last[left:], remark))
}

// leftOf counts the rows that the new primary has.
func (s *stage) leftOf(ctx context.Context, last []commitorder.Commit) (int, error) {
	rows, err := s.Pool.Query(ctx, `SELECT node, epoch, pid, seq FROM public.probe WHERE at > now() - interval '10 minutes'`)
	if err != nil {
		return 0, fmt.Errorf("look what is left: %w", err)
	}
	there := map[commitorder.Row]bool{}
	var r commitorder.Row
	_, err = pgx.ForEachRow(rows, []any{&r.Node, &r.Epoch, &r.PID, &r.Seq}, func() error { there[r] = true; return nil })
	if err != nil {
		return 0, fmt.Errorf("look what is left: %w", err)
	}
	left := 0
	for left < len(last) && there[last[left].Row] {
		left++
	}
	for _, c := range last[left:] {
		if there[c.Row] {
			return 0, fmt.Errorf("the oracle cannot be trusted: of the old primary's log %+v is lost, and a later row is not", last[left].Row)
		}
	}
	return left, nil
}
