package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// rest leaves the cluster alone, and compares two looks at it.
func (s *stage) rest(ctx context.Context, o options, r *Report) error {
	if err := lab.Pause(ctx, o.settle); err != nil {
		return err
	}
	before, err := s.look(ctx)
	if err != nil {
		return err
	}
	if err := lab.Pause(ctx, o.watch); err != nil {
		return err
	}
	after, err := s.look(ctx)
	if err != nil {
		return err
	}
	seconds := after.at.Sub(before.at).Seconds()
	for _, host := range []string{"a", "b", "t"} {
		r.Daemons = append(r.Daemons, Daemon{
			Host: host, CPU: 100 * (after.daemons[host].cpu - before.daemons[host].cpu).Seconds() / seconds, RSS: after.daemons[host].resident,
		})
	}
	for pid, now := range after.backends {
		r.Postgres += 100 * max(now-before.backends[pid], 0).Seconds() / seconds
	}
	r.Sessions = len(after.backends)
	r.Entries = float64(after.commit-before.commit) / seconds
	r.Load = loadAverage()
	return nil
}

// look is what was counted up to now.
type look struct {
	at      time.Time
	daemons map[string]spent
	// backends are how long each session of a fencer has kept a processor busy.
	backends map[int]time.Duration
	commit   uint64 // of raft's log
}

type spent struct {
	cpu      time.Duration
	resident float64 // MB
}

func (s *stage) look(ctx context.Context) (look, error) {
	l := look{at: time.Now(), daemons: map[string]spent{}, backends: map[int]time.Duration{}}
	for host, node := range s.cluster.Nodes {
		u, err := readUsage(filepath.Join("/proc", strconv.Itoa(node.Process().PID())))
		if err != nil {
			return l, fmt.Errorf("read figures of host %s: %w", host, err)
		}
		l.daemons[host] = u
	}
	rows, err := s.conn.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'duoflow/%/fencer'`)
	if err != nil {
		return l, fmt.Errorf("list sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			return l, fmt.Errorf("list sessions: %w", err)
		}
		if u, err := readUsage(filepath.Join("/proc", strconv.Itoa(pid))); err == nil { // else it has just ended
			l.backends[pid] = u.cpu
		}
	}
	if err := rows.Err(); err != nil {
		return l, fmt.Errorf("list sessions: %w", err)
	}
	status, err := s.cluster.Status(ctx)
	l.commit = status.GetCommit()
	return l, err
}

// clockTicks per second, as /proc shows them on every Linux that Go runs on.
const clockTicks = 100

// readUsage reads a folder of /proc: utime and stime, fields 14 and 15 counted behind the name, which may hold anything, and VmRSS.
func readUsage(dir string) (spent, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return spent{}, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return spent{}, fmt.Errorf("parse %s/stat: %d fields", dir, len(fields))
	}
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return spent{}, fmt.Errorf("parse %s/stat: %w", dir, err)
		}
		ticks += n
	}
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return spent{}, err
	}
	_, rest, found := strings.Cut(string(text), "VmRSS:")
	var kB float64
	if _, err := fmt.Sscan(rest, &kB); !found || err != nil {
		return spent{}, fmt.Errorf("parse %s/status: no VmRSS", dir)
	}
	return spent{cpu: time.Duration(ticks) * time.Second / clockTicks, resident: kB / 1024}, nil
}

// loadAverage is the machine's over the last minute, which says what figures of time are worth.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	_, _ = fmt.Sscan(string(text), &load) // 0 says that it is not known
	return load
}
