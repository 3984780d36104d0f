package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// queueStatement stops a session of the writer in the server between two statements, waits until the writer's next one
// lies in the session's socket, and kills the host. The server will execute it when the session goes on, unless
// something else forbids it.
func queueStatement(ctx context.Context, c *scene) error {
	for range 50 {
		queued, err := c.stall(ctx)
		if err != nil {
			return errors.Join(err, continueBackend(c))
		}
		if queued {
			return killHost(ctx, c)
		}
		if err := continueBackend(c); err != nil {
			return err
		}
	}
	return errVoid{"no session could be stopped between two statements"}
}

// stall stops an idle session and reports whether it stayed idle and a statement has come for it.
func (c *scene) stall(ctx context.Context) (bool, error) {
	var pid, port int
	err := c.stage.pool.QueryRow(ctx, `SELECT pid, client_port FROM pg_stat_activity
		WHERE application_name = 'bench-writer' AND client_addr = $1::inet AND state = 'idle' LIMIT 1`,
		c.stage.lab.Host(c.host).Addr).Scan(&pid, &port)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, lab.Pause(ctx, time.Millisecond)
	}
	if err != nil {
		return false, fmt.Errorf("find session: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return false, fmt.Errorf("stop session: %w", err)
	}
	c.backend = pid
	if err := lab.Pause(ctx, 30*time.Millisecond); err != nil { // the writer's pace is 5 ms
		return false, err
	}
	var state string
	if err := c.stage.pool.QueryRow(ctx, `SELECT state FROM pg_stat_activity WHERE pid = $1`, pid).Scan(&state); err != nil {
		return false, fmt.Errorf("look at session: %w", err)
	}
	if state != "idle" {
		return false, nil
	}
	// Not /proc/net: that is the main thread's network, and the lab may have moved that thread into a host.
	text, err := os.ReadFile("/proc/thread-self/net/tcp")
	if err != nil {
		return false, fmt.Errorf("look at sockets: %w", err)
	}
	return received(string(text), c.stage.lab.Host(c.host).Addr, port) > 0, nil
}

// received is the number of bytes that wait to be read from a peer, of a table like /proc/net/tcp; 0 when there is no
// such connection.
func received(table, addr string, port int) uint64 {
	ip, err := netip.ParseAddr(addr)
	if err != nil || !ip.Is4() {
		return 0
	}
	bytes := ip.As4()
	remote := fmt.Sprintf("%08X:%04X", binary.LittleEndian.Uint32(bytes[:]), port)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[2] != remote {
			continue
		}
		var sent, got uint64
		if _, err := fmt.Sscanf(fields[4], "%x:%x", &sent, &got); err == nil {
			return got
		}
	}
	return 0
}

func continueBackend(c *scene) error {
	if c.backend == 0 {
		return nil
	}
	err := syscall.Kill(c.backend, syscall.SIGCONT)
	c.backend = 0
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("continue session: %w", err)
	}
	return nil
}

// continueSession lets the statement happen, and watches for a while before the host comes back.
func continueSession(ctx context.Context, c *scene) error {
	if err := continueBackend(c); err != nil {
		return err
	}
	if err := lab.Pause(ctx, shortly); err != nil {
		return err
	}
	return revive(ctx, c)
}
