package fence_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// actFrozen is the other process: it takes the fence as it is told and says how that went. order is
// "take|DSN|group|token" (the fencer as it is) or "transaction|..." (one that is careless enough to
// keep a transaction open between its statements).
func actFrozen(order string) int {
	part := strings.Split(order, "|")
	dsn, group := part[1], part[2]
	c := fence.Claim{Epoch: 2, Node: "a", Token: part[3]}
	var err error
	if part[0] == "take" {
		err = takeAndDrain(dsn, group, c)
	} else {
		err = takeInTransaction(dsn, group, c)
	}
	fmt.Println("end:", strings.ReplaceAll(fmt.Sprint(err), "\n", " "))
	return 0
}

// takeAndDrain waits for locks so long that only somebody else can end the wait.
func takeAndDrain(dsn, group string, c fence.Claim) error {
	f, err := fence.New(fence.Config{Job: job, DSN: dsn, Group: group, LockTimeout: time.Minute})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fmt.Println("begin")
	if _, err := f.Take(ctx, c); err != nil {
		return err
	}
	return f.Drain(ctx, c)
}

func takeInTransaction(dsn, group string, c fence.Claim) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn+"&application_name=duoflow/scheduler/fencer")
	if err != nil {
		return err
	}
	defer closeConn(conn)
	verifier, err := fence.Verifier(rand.Text())
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SET ROLE duoflow"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "SELECT duoflow.take($1, $2, $3, $4, $5, $6)", job, group, c.Epoch, c.Node, c.Token, verifier); err != nil {
		return err
	}
	fmt.Println("begin")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil { // it is frozen in here, and no later
		return err
	}
	if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	return errors.New("committed")
}

// process is the other fencer.
type process struct {
	cmd   *exec.Cmd
	in    io.Writer
	lines *bufio.Scanner
}

func startFencerProcess(t *testing.T, order string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), frozenEnv+"="+order)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p := &process{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
	if p.lines.Scan(); p.lines.Text() != "begin" {
		t.Fatalf("the process said %q", p.lines.Text())
	}
	return p
}

func (p *process) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// A fencer's process freezes in the middle of its take, while that holds the job's row. The other
// node overtakes it, and what it does when it wakes up changes nothing.
func TestAFencerFrozenInItsTakeIsOvertaken(t *testing.T) {
	cases := []struct{ how, end, events string }{
		// The statement is whole at the server: it ends there, and the late fencer finds itself superseded.
		{"take", "fence row is not at this claim", "1 2 3"},
		// The transaction is ended: nothing of it ever was.
		{"transaction", "terminating connection", "1 3"},
	}
	// On a busy machine the server may not get to the end of the statement before the rival looks again. Then that is ended
	// too, once it waits for nobody.
	const endedLate, eventsLate = "claim is stale", "1 3"
	for _, c := range cases {
		t.Run(c.how, func(t *testing.T) {
			b := newBench(t)
			var log lockedBuffer
			rival := b.fencer(b.b, func(c *fence.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			old := login(t, take(t, rival, claim(1, "b")))
			locker := b.owner()
			if c.how == "take" { // its last step has to wait, with the row locked
				mustExec(t, locker, "BEGIN")
				mustExec(t, locker, "LOCK TABLE duoflow.event")
			}
			frozen := startFencerProcess(t, strings.Join([]string{c.how, b.a, b.group, claim(2, "a").Token}, "|"))
			eventually(t, "take is in the middle", func() bool {
				return b.query(`SELECT count(*)::text FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 'fencer_a%'
					AND (wait_event_type = 'Lock' OR state = 'idle in transaction')`) == "1"
			})
			frozen.signal(t, syscall.SIGSTOP)
			began := time.Now()
			third := claim(3, "b")
			credentials := take(t, rival, third)
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("take over a frozen fencer took %s", took)
			}
			own := login(t, credentials)
			mustExec(t, own, insertW, 3)
			if _, err := io.WriteString(frozen.in, "go on\n"); err != nil {
				t.Fatal(err)
			}
			frozen.signal(t, syscall.SIGCONT)
			frozen.lines.Scan()
			events := b.query("SELECT string_agg(epoch::text, ' ' ORDER BY id) FROM duoflow.event WHERE kind = 'take'")
			want := []string{c.end, c.events}
			if blocker, waiter := strings.Index(log.String(), "of owner_"), strings.Index(log.String(), "of fencer_a"); c.how == "take" && waiter >= 0 {
				want = []string{endedLate, eventsLate}
				if blocker < 0 || blocker > waiter {
					t.Errorf("the waiting fencer was ended before its blocker:\n%s", log.String())
				}
			}
			if !strings.Contains(frozen.lines.Text(), want[0]) || events != want[1] {
				t.Errorf("the frozen one said %q, takes = %s, want %q", frozen.lines.Text(), events, want)
			}
			mustExec(t, own, insertW, 3)
			_, err := old.Exec(t.Context(), insertW, 1)
			wantCode(t, "write of the first epoch", err, "57P01", "closed")
			if got := b.query("SELECT epoch || token FROM duoflow.fence WHERE job = $1", job); got != "3"+third.Token {
				t.Errorf("row = %s", got)
			}
		})
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// owner is a session of the role that owns the fence's tables, as a careless administrator's that is
// no superuser.
func (b *bench) owner() *pgx.Conn {
	b.t.Helper()
	role := "owner_" + b.group
	mustExec(b.t, b.admin, "CREATE ROLE "+role+" LOGIN PASSWORD 'pw'")
	mustExec(b.t, b.admin, "GRANT USAGE ON SCHEMA duoflow TO "+role)
	for _, table := range []string{"fence", "event"} {
		mustExec(b.t, b.admin, fmt.Sprintf("GRANT ALL ON duoflow.%s TO %s", table, role))
	}
	return open(b.t, b.server.DSN(role, "pw", b.database))
}

// The hardest lock on the whole fence table, in a transaction that then does nothing. Both nodes must
// stay eligible meanwhile, else nobody would take.
func TestALockOnTheFenceTableDoesNotMakeTheServerUnreachable(t *testing.T) {
	b := newBench(t)
	var w watcher
	f := b.fencer(b.a, watching(&w, 20*time.Millisecond))
	c := claim(1, "a")
	take(t, f, c)
	eventually(t, "row seen", func() bool { h, _ := w.get(); return h.Row.Epoch == 1 })
	locker := b.owner()
	mustExec(t, locker, "BEGIN")
	mustExec(t, locker, "LOCK TABLE duoflow.fence IN ACCESS EXCLUSIVE MODE")
	eventually(t, "lock noticed", func() bool { h, _ := w.get(); return strings.Contains(h.Err, "lock") })
	_, first := w.get()
	eventually(t, "three probes", func() bool {
		h, seen := w.get()
		if !h.Reachable || !h.Writable || h.Row.Token != c.Token {
			t.Fatalf("health under a lock = %+v", h)
		}
		return seen >= first+3
	})
	began := time.Now()
	take(t, b.fencer(b.b), claim(2, "b"))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("take against the lock took %s", took)
	}
	_, err := locker.Exec(t.Context(), "COMMIT")
	wantCode(t, "commit of the lock's holder", err, "57P01", "closed")
	eventually(t, "healthy again", func() bool { h, _ := w.get(); return h.Row.Epoch == 2 && h.Err == "" })
}
