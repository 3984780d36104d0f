package warehouse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/warehouse"
	"github.com/duoflow/duoflow/scripts/pg"
)

func newServer(t testing.TB) *pg.Server {
	t.Helper()
	own, err := pg.Start(t.Context(), pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := own.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return own
}

// Every write of an epoch that is over is ErrFenced, however it finds out, and nothing of it is there.
func TestOldEpochIsFenced(t *testing.T) {
	h := newHouse(t)
	r, other := result("2018", 2000, 1), result("2018", 3000, 2)
	old := h.epoch(1)
	mustLoad(t, old, entry("2018", "a"), r)
	h.take(2) // drains: the old session is ended, its role may not log in
	_, err := old.Load(t.Context(), entry("2018", "b"), other, other.Totals)
	wantErr(t, "load", err, warehouse.ErrFenced)
	err = old.Note(t.Context(), warehouse.Entry{Chunk: "2018", Step: "copy", State: warehouse.Done})
	wantErr(t, "note", err, warehouse.ErrFenced)
	wantErr(t, "reset", old.Reset(t.Context(), "2018"), warehouse.ErrFenced)
	h.holds("2018", r)
	h.want("SELECT string_agg(step || epoch, ' ') FROM duoflow.etl_chunk", "load1")
}

// As above, without the drain: what is left is the row lock, or the want of rights.
func TestEachWayOfBeingFenced(t *testing.T) {
	for name, way := range map[string]string{
		"the row moved, nothing else": "UPDATE duoflow.fence SET epoch = 2, node = 'b' WHERE job = 'etl'",
		"group revoked":               "UPDATE duoflow.fence SET epoch = 2 WHERE job = 'etl'; REVOKE {group} FROM {role} GRANTED BY duoflow",
		"group revoked, row unmoved":  "REVOKE {group} FROM {role} GRANTED BY duoflow",
		"ended, may not log in":       "REVOKE {group} FROM {role} GRANTED BY duoflow; ALTER ROLE {role} NOLOGIN; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
		"ended, may log in":           "UPDATE duoflow.fence SET epoch = 2 WHERE job = 'etl'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
		"another password":            "ALTER ROLE {role} PASSWORD 'other'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
		"role dropped":                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'; DROP ROLE {role}",
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			dsn := h.take(1)
			c := warehouse.Config{DSN: dsn, Identity: warehouse.Identity{Epoch: 1, Node: "a"}}
			w := h.open(c)
			mustLoad(t, w, entry("2018", "a"), result("2018", 2000, 1))
			role := h.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'df\\_' || $1 || '\\_etl\\_e1'", h.group)
			for statement := range strings.SplitSeq(way, ";") {
				mustExec(t, h.admin, strings.NewReplacer("{group}", h.group, "{role}", role).Replace(statement))
			}
			r := result("2018", 3000, 2)
			_, err := w.Load(t.Context(), entry("2018", "b"), r, r.Totals)
			wantErr(t, "load", err, warehouse.ErrFenced)
			wantErr(t, "note", w.Note(t.Context(), warehouse.Entry{Chunk: "2018", Step: "copy", State: warehouse.Done}), warehouse.ErrFenced)
			_, err = h.tryOpen(c)
			wantErr(t, "open", err, warehouse.ErrFenced)
			h.holds("2018", result("2018", 2000, 1))
		})
	}
}

// What only looks like being fenced must not end the run with that word.
func TestNotFenced(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	r := result("2018", 2000, 1)
	end := "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE 'df\\_%' AND datname = current_database()"
	for i := range 5 {
		mustExec(t, h.admin, end)
		mustLoad(t, w, entry("2018", fmt.Sprint(i)), r)
	}
	mustExec(t, h.admin, "REVOKE INSERT ON lightning.month FROM "+h.group)
	_, err := w.Load(t.Context(), entry("2018", "x"), r, r.Totals)
	if err == nil || errors.Is(err, warehouse.ErrFenced) || !strings.Contains(err.Error(), "permission denied for table month") {
		t.Error(err)
	}
	mustExec(t, h.admin, "DELETE FROM duoflow.fence WHERE job = 'etl'")
	err = w.Note(t.Context(), warehouse.Entry{Chunk: "2018", Step: "copy", State: warehouse.Done})
	wantErr(t, "no row", err, warehouse.ErrNotSetUp)
}

// The epoch moves while a write is on. The take waits for the commit, or ends the write; never are rows of the old epoch
// committed after the take.
func TestTakeDuringAWrite(t *testing.T) {
	h := newHouse(t)
	w := h.epoch(1)
	// A table that is locked holds the load between its check of the fence and its commit.
	other := connect(t, h.adminDSN())
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tx.Exec(t.Context(), "LOCK TABLE lightning.cell_month"); err != nil {
		t.Fatal(err)
	}
	r := result("2018", 2000, 1)
	done := make(chan error, 1)
	go func() {
		_, err := w.Load(context.Background(), entry("2018", "a"), r, r.Totals)
		done <- err
	}()
	eventually(t, "the load at the locked table", func() bool {
		return h.query("SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 'lightning.cell_month'::regclass") == "1"
	})
	// A take that is patient has to wait: the row is locked.
	blocked := connect(t, h.adminDSN())
	mustExec(t, blocked, "SET lock_timeout = '50ms'")
	if _, err := blocked.Exec(t.Context(), "UPDATE duoflow.fence SET epoch = 2 WHERE job = 'etl'"); err == nil || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("the epoch moved between the check and the commit: %v", err)
	}
	h.take(2) // the real one ends who is in its way
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "load", <-done, warehouse.ErrFenced)
	h.want("SELECT count(*)::text FROM lightning.day", "0")
	h.want("SELECT count(*)::text FROM duoflow.etl_chunk", "0")
}

// loaderEnv makes this test binary a process that loads until it is fenced; see TestFrozenLoader.
const loaderEnv = "DUOFLOW_WAREHOUSE_TEST_LOADER"

type loaderOrder struct {
	DSN, Group string
}

// actLoader loads one chunk with other rows each time and says so; exit code 4 is fenced.
func actLoader(text string) int {
	var order loaderOrder
	if err := json.Unmarshal([]byte(text), &order); err != nil {
		fmt.Println(err)
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w, err := warehouse.Open(ctx, warehouse.Config{DSN: order.DSN, Identity: warehouse.Identity{Job: job, Epoch: 1, Node: "a"}, Layout: warehouse.Layout{Group: order.Group}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer w.Close()
	for i := uint64(0); ; i++ {
		r := result("2018", 20_000, i)
		if _, err := w.Load(ctx, entry("2018", fmt.Sprint(i)), r, r.Totals); err != nil {
			fmt.Println(err)
			if errors.Is(err, warehouse.ErrFenced) {
				return 4
			}
			return 1
		}
		fmt.Println("loaded", i)
	}
}

// A process that is frozen at any moment, and wakes after another epoch has taken over, has written nothing since and ends
// with the word for it.
func TestFrozenLoader(t *testing.T) {
	for round := range 6 {
		h := newHouse(t)
		order, err := json.Marshal(loaderOrder{h.take(1), h.group})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), loaderEnv+"="+string(order))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), "loaded") {
			t.Fatalf("%q", lines.Text())
		}
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // anywhere within a load
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		w := h.epoch(2)
		before := state(h)
		if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		last := ""
		for lines.Scan() {
			last = lines.Text()
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 4 {
			t.Errorf("round %d: %v: %s", round, err, last)
		}
		if after := state(h); after != before {
			t.Errorf("round %d: written after the take: %s, was %s", round, after, before)
		}
		if found, err := w.Verify(t.Context()); err != nil || len(found) > 0 {
			t.Errorf("round %d: half a chunk: %v, %v", round, found, err)
		}
	}
}

func state(h *house) string {
	return h.query("SELECT coalesce((SELECT source_hash || ' ' || xmin FROM lightning.chunk), '') || ' ' || (SELECT coalesce(max(xmin::text::bigint), 0) FROM lightning.cell_month) || ' ' || (SELECT updated FROM duoflow.etl_chunk)")
}

func TestByHand(t *testing.T) {
	h := newHouse(t)
	h.reading.Close() // it was opened by hand
	hand := h.open(warehouse.Config{DSN: h.adminDSN(), Identity: warehouse.Identity{Node: "me"}})
	_, err := h.tryOpen(warehouse.Config{DSN: h.adminDSN()})
	wantErr(t, "two by hand", err, warehouse.ErrBusy)
	r := result("2018", 2000, 1)
	mustLoad(t, hand, entry("2018", "a"), r)
	h.want("SELECT epoch || node FROM duoflow.etl_chunk", "0me")
	// Its session is lost; it has the lock again when it is back.
	mustExec(t, h.admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'duoetl/lightning' AND datname = current_database()")
	if err := hand.Note(t.Context(), warehouse.Entry{Chunk: "2018", Step: "copy", State: warehouse.Done}); err != nil {
		t.Error(err)
	}
	_, err = h.tryOpen(warehouse.Config{DSN: h.adminDSN()})
	wantErr(t, "two by hand", err, warehouse.ErrBusy)
	// A cluster begins to run the job.
	cluster := h.epoch(1)
	mustLoad(t, cluster, entry("2018", "b"), r)
	_, err = hand.Load(t.Context(), entry("2018", "c"), r, r.Totals)
	wantErr(t, "beside a cluster", err, warehouse.ErrClustered)
	hand.Close()
	_, err = h.tryOpen(warehouse.Config{DSN: h.adminDSN()})
	wantErr(t, "beside a cluster", err, warehouse.ErrClustered)
	forced := h.open(warehouse.Config{DSN: h.adminDSN(), Force: true})
	mustLoad(t, forced, entry("2018", "d"), r)
}

// Without a fence at all, as on one's own machine.
func TestByHandWithoutAFence(t *testing.T) {
	h := newBare(t, server)
	mustExec(t, h.admin, "DROP SCHEMA duoflow CASCADE")
	h.layout = warehouse.Layout{}
	w := h.open(warehouse.Config{DSN: h.adminDSN()})
	wantErr(t, "before set-up", w.Ready(t.Context()), warehouse.ErrNotSetUp)
	if err := w.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, w, entry("2018", "a"), result("2018", 2000, 1))
	_, err := h.tryOpen(warehouse.Config{DSN: h.adminDSN(), Identity: warehouse.Identity{Epoch: 1}})
	wantErr(t, "an epoch without a fence", err, warehouse.ErrNotSetUp)
}

// Who comes to look needs no epoch, is kept out by nobody, keeps nobody out, and cannot write.
func TestReadOnly(t *testing.T) {
	h := newHouse(t)
	cluster := h.epoch(1)
	r := result("2018", 2000, 1)
	mustLoad(t, cluster, entry("2018", "a"), r)
	for name, id := range map[string]warehouse.Identity{"by hand": {}, "an old epoch": {Epoch: 7}} {
		w := h.open(warehouse.Config{DSN: h.adminDSN(), Identity: id, ReadOnly: true})
		if epoch, node, err := w.Fence(t.Context()); err != nil || epoch != 1 || node != "a" {
			t.Errorf("%s: fence at epoch %d on %q, %v", name, epoch, node, err)
		}
		held, err := w.Held(t.Context())
		ledger, errLedger := w.Ledger(t.Context())
		findings, errVerify := w.Verify(t.Context())
		if err := errors.Join(err, errLedger, errVerify, w.Ready(t.Context())); err != nil || len(held) != 1 || len(ledger) != 1 || len(findings) != 0 {
			t.Errorf("%s: %v, %v, %v, %v", name, held, ledger, findings, err)
		}
		before := state(h)
		_, err = w.Load(t.Context(), entry("2018", "b"), r, r.Totals)
		wantErr(t, name+": load", err, warehouse.ErrReadOnly)
		wantErr(t, name+": note", w.Note(t.Context(), entry("2018", "b")), warehouse.ErrReadOnly)
		wantErr(t, name+": reset", w.Reset(t.Context(), "2018"), warehouse.ErrReadOnly)
		wantErr(t, name+": set up", w.Setup(t.Context()), warehouse.ErrReadOnly)
		if after := state(h); after != before {
			t.Errorf("%s: it has written: %s, before %s", name, after, before)
		}
	}
	mustLoad(t, cluster, entry("2018", "b"), result("2018", 3000, 2))
	bare := newBare(t, server)
	mustExec(t, bare.admin, "DROP SCHEMA duoflow CASCADE")
	if epoch, _, err := bare.open(warehouse.Config{DSN: bare.adminDSN(), ReadOnly: true}).Fence(t.Context()); err != nil || epoch != 0 {
		t.Errorf("without a fence: epoch %d, %v", epoch, err)
	}
}
