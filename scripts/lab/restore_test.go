package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// kept is where the log of a node is put aside.
const kept = "raft.kept"

// stolen is a copy of the credentials of the life that runs on a node, as a DSN.
func stolen(t *testing.T, n *lab.Node) string {
	t.Helper()
	var dsn string
	eventuallyWithin(t, 2*time.Minute, "the service file of a life", func() bool {
		files, err := filepath.Glob(filepath.Join(n.DataDir(), "jobs", "scheduler", "lives", "*", "*"))
		must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err == nil && strings.Contains(string(text), "password=") {
				_, settings, _ := strings.Cut(string(text), "]\n")
				dsn = strings.Join(strings.Split(strings.TrimSpace(settings), "\n"), " ")
			}
		}
		return dsn != ""
	})
	return dsn
}

// commits waits for a row of an epoch, or of a later one: a machine that is busy with other things may let the job change hands.
func commits(ctx context.Context, t *testing.T, conn *pgx.Conn, active lab.Active) {
	t.Helper()
	eventuallyWithin(t, 2*time.Minute, "the active epoch commits a row", func() bool {
		return count(ctx, t, conn, "epoch >= $1", active.Epoch) > 0
	})
}

func count(ctx context.Context, t *testing.T, conn *pgx.Conn, which string, epoch uint64) (n int64) {
	t.Helper()
	must(t, conn.QueryRow(ctx, "SELECT count(*) FROM public.work WHERE "+which, int64(epoch)).Scan(&n))
	return n
}

// thief tries to write with credentials that it has, all the time, until the function that it hands back is called, which tells how often
// it got in. Nobody stops it: it is on no host.
func thief(ctx context.Context, dsn string) (ended func() int) {
	ctx, cancel := context.WithCancel(ctx)
	var joined sync.WaitGroup
	written := 0
	joined.Go(func() {
		for ; ctx.Err() == nil; _ = lab.Pause(ctx, 10*time.Millisecond) {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				continue
			}
			if _, err := conn.Exec(ctx, "INSERT INTO public.work (node, epoch) VALUES ('thief', 0)"); err == nil {
				written++
			}
			_ = conn.Close(ctx)
		}
	})
	return func() int {
		cancel()
		joined.Wait()
		return written
	}
}

// end kills a host, and waits until its daemon is seen to have ended.
func end(ctx context.Context, t *testing.T, n *lab.Node) {
	t.Helper()
	must(t, n.Kill(ctx))
	select {
	case <-n.Process().Done():
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}

// putAside moves the log of a node away, as a new disk would.
func putAside(t *testing.T, n *lab.Node, name string) {
	t.Helper()
	must(t, os.Rename(filepath.Join(n.DataDir(), "raft"), filepath.Join(n.DataDir(), name)))
}

// restoreOn makes a node from a file, and tells which life it is of.
func restoreOn(ctx context.Context, t *testing.T, n *lab.Node, file string, more ...string) (life string) {
	t.Helper()
	output, code, err := n.Offline(ctx, append([]string{"restore", file, "-o", "json"}, more...)...)
	if err != nil || code != 0 {
		t.Fatalf("restore of node %s: exit code %d, %s, %v", n.Name, code, output, err)
	}
	var answer struct{ Life string }
	must(t, json.Unmarshal([]byte(output), &answer))
	return answer.Life
}

// inOrder wants no epoch to have committed after a later one; 0 is the thief's.
func inOrder(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	t.Helper()
	var wrong int
	must(t, conn.QueryRow(ctx, `SELECT count(*) FROM (SELECT epoch, max(epoch) OVER (ORDER BY pg_xact_commit_timestamp(xmin), id) AS top
		FROM public.work WHERE epoch > 0) w WHERE epoch < top`).Scan(&wrong))
	if wrong > 0 {
		t.Errorf("%d rows of an epoch were committed after a later one's", wrong)
	}
}

// TestRestoreFromABackup loses every log, and makes the nodes from a backup that knows nothing of the last epochs.
func TestRestoreFromABackup(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c, conn := writers(ctx, t, l)
	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	commits(ctx, t, conn, first)
	tellOnFailure(ctx, t, c)
	file := filepath.Join(l.Dir, "week-old.backup")
	mustCtlSoon(ctx, t, c, "backup", file)
	credentials := stolen(t, c.Nodes[first.Node])
	last := moveTwice(ctx, t, c, first)
	commits(ctx, t, conn, last)
	ended := thief(ctx, credentials)
	for _, name := range []string{"a", "b", "t"} {
		end(ctx, t, c.Nodes[name])
		putAside(t, c.Nodes[name], kept)
	}
	life := restoreOn(ctx, t, c.Nodes["a"], file)
	for _, name := range []string{"b", "t"} {
		restoreOn(ctx, t, c.Nodes[name], file, "--life", life)
	}
	must(t, c.Start())
	next, err := c.AwaitActive(ctx, "scheduler", last.Epoch)
	must(t, err)
	commits(ctx, t, conn, next)
	status, err := c.Status(ctx)
	must(t, err)
	if status.GetLife() != life || next.Epoch < last.Epoch+1000 {
		t.Errorf("life %s, want %s; epoch %d after %d", status.GetLife(), life, next.Epoch, last.Epoch)
	}
	if n := ended(); n > 0 {
		t.Errorf("the epoch of the backup has written %d rows", n)
	}
	inOrder(ctx, t, conn)

	// A disk that is lost in the new life comes back by itself.
	wiped := c.Nodes[other(next.Node)]
	end(ctx, t, wiped)
	putAside(t, wiped, "raft.lost")
	must(t, wiped.Start())
	eventuallyWithin(t, 3*time.Minute, "the node with a new disk runs the job", func() bool {
		_, _, err := c.Ctl(ctx, "switchover", "--to", wiped.Name, "--yes") // refused while it is not ready, or has it already
		must(t, err)
		var written bool
		must(t, conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM public.work WHERE node = $1 AND epoch > $2)", wiped.Name, int64(next.Epoch)).Scan(&written))
		return written
	})
	inOrder(ctx, t, conn)
}

// moveTwice has the job moved away and back, so that two epochs are newer than the one given.
func moveTwice(ctx context.Context, t *testing.T, c *lab.Cluster, last lab.Active) lab.Active {
	t.Helper()
	for range 2 {
		mustCtlSoon(ctx, t, c, "switchover", "--yes")
		var err error
		last, err = c.AwaitActive(ctx, "scheduler", last.Epoch)
		must(t, err)
	}
	return last
}

// mustCtlSoon repeats a command that is refused for as long as a node is not ready.
func mustCtlSoon(ctx context.Context, t *testing.T, c *lab.Cluster, args ...string) {
	t.Helper()
	var said string
	for {
		output, code, err := c.Ctl(ctx, args...)
		if err == nil && code == 0 {
			return
		}
		if said = output; ctx.Err() != nil {
			t.Fatalf("duoctl %v: %s, %v", args, said, errors.Join(err, ctx.Err()))
		}
		must(t, lab.Pause(ctx, 100*time.Millisecond))
	}
}

// TestRestoreOfPostgres puts the metastore back to an older epoch, credentials included, while the nodes go on.
func TestRestoreOfPostgres(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c, _ := writers(ctx, t, l)
	tellOnFailure(ctx, t, c)
	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	credentials := stolen(t, c.Nodes[first.Node])
	store := c.Metastore()
	must(t, store.Copy(ctx, "week-old"))
	last, err := c.AwaitActive(ctx, "scheduler", first.Epoch) // its session ended with the server
	must(t, err)
	last = moveTwice(ctx, t, c, last)
	port := store.Port()
	must(t, store.PutBack(ctx, "week-old"))
	ended := thief(ctx, credentials)
	sealed := mustCtl(ctx, t, c, "metastore", "seal", "--yes", "--admin-dsn", store.Admin(), "-o", "json")
	if !strings.Contains(sealed, `"df_airflow_scheduler_e`) {
		t.Errorf("nothing was to be shut: %s", sealed)
	}
	must(t, store.RestartAt(ctx, port))
	next, err := c.AwaitActive(ctx, "scheduler", last.Epoch)
	must(t, err)
	conn := connect(ctx, t, store.DSNOf(lab.Owner))
	commits(ctx, t, conn, next)
	if n := ended(); n > 0 {
		t.Errorf("the epoch that the restore brought back has written %d rows", n)
	}
	inOrder(ctx, t, conn)
	var between int64
	must(t, conn.QueryRow(ctx, "SELECT count(*) FROM public.work WHERE epoch > $1 AND epoch <= $2", int64(first.Epoch), int64(last.Epoch)).Scan(&between))
	if row := rowOf(ctx, t, c); between > 0 || row.Epoch < next.Epoch {
		t.Errorf("%d rows of epochs that the restore has lost; the row is at %d, want at least %d", between, row.Epoch, next.Epoch)
	}
}

// TestRestoreOfALostMajority: two nodes of three are gone for good. The third begins another life, with two new ones; later the disks of the
// lost ones are started again, which are a majority of the life before, while the third is alone.
func TestRestoreOfALostMajority(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c, conn := writers(ctx, t, l)
	tellOnFailure(ctx, t, c)
	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	commits(ctx, t, conn, first)
	survivor, lost := c.Nodes[other(first.Node)], []*lab.Node{c.Nodes[first.Node], c.Nodes["t"]}
	ended := thief(ctx, stolen(t, lost[0]))
	for _, n := range lost {
		end(ctx, t, n)
		putAside(t, n, kept)
	}
	file := filepath.Join(l.Dir, "recovered.backup")
	if output, code, err := survivor.Offline(ctx, "recover", "--out", file); err != nil || code != 3 || !strings.Contains(output, "a process holds the data directory") {
		t.Errorf("recovery of a node that runs: exit code %d, %s, %v", code, output, err)
	}
	must(t, survivor.StopDaemon(ctx))
	if output, code, err := survivor.Offline(ctx, "recover", "--out", file); err != nil || code != 0 {
		t.Fatalf("recovery: exit code %d, %s, %v", code, output, err)
	}
	for _, n := range lost {
		restoreOn(ctx, t, n, file)
	}
	must(t, c.Start())
	second, err := c.AwaitActive(ctx, "scheduler", first.Epoch)
	must(t, err)
	commits(ctx, t, conn, second)
	_ = ended() // while the old life held the epoch, its credentials were good
	held := leaveAlone(ctx, t, c, survivor, lost)

	// The dead come back.
	for _, n := range lost {
		putAside(t, n, "raft.new")
		must(t, os.Rename(filepath.Join(n.DataDir(), kept), filepath.Join(n.DataDir(), "raft")))
		must(t, n.Start())
	}
	eventuallyWithin(t, 2*time.Minute, "the majority of the life before tries to take the fence, and is refused", func() bool {
		output, _, err := c.Ctl(ctx, "history", "--endpoint", lost[1].Admin(), "-o", "json")
		return err == nil && strings.Contains(output, "a later life of this cluster has the fence")
	})
	output, code, err := c.Ctl(ctx, "failover", "--force", "--yes", "--endpoint", lost[0].Admin())
	if err != nil || code == 0 {
		t.Errorf("a forced takeover of the life before: exit code %d, %s, %v", code, output, err)
	}
	rows := count(ctx, t, conn, "epoch = $1", held)
	eventuallyWithin(t, 2*time.Minute, "the new life goes on writing", func() bool { return count(ctx, t, conn, "epoch = $1", held) > rows+10 })
	if row := rowOf(ctx, t, c); row.Epoch != held || row.Node != survivor.Name || count(ctx, t, conn, "epoch > $1", held) > 0 {
		t.Errorf("the row is %+v, want epoch %d of %s", row, held, survivor.Name)
	}
	for _, n := range lost {
		must(t, n.StopDaemon(ctx))
		putAside(t, n, kept)
		must(t, os.Rename(filepath.Join(n.DataDir(), "raft.new"), filepath.Join(n.DataDir(), "raft")))
		must(t, n.Start())
	}
	_, err = c.AwaitActive(ctx, "scheduler", held-1)
	must(t, err)
	inOrder(ctx, t, conn)
}

// leaveAlone has the job run on one node and the daemons of the others stopped, and tells its epoch.
func leaveAlone(ctx context.Context, t *testing.T, c *lab.Cluster, one *lab.Node, others []*lab.Node) (epoch uint64) {
	t.Helper()
	for {
		_, _, err := c.Ctl(ctx, "switchover", "--to", one.Name, "--yes") // refused if it has it already
		must(t, err)
		if active, err := c.AwaitActive(ctx, "scheduler", 0); err == nil && active.Node != one.Name {
			continue
		}
		for _, n := range others {
			must(t, n.StopDaemon(ctx))
		}
		if row := rowOf(ctx, t, c); row.Node == one.Name {
			return row.Epoch
		}
		for _, n := range others { // it has moved in between
			must(t, n.Start())
		}
	}
}

// rowOf is the fence row.
func rowOf(ctx context.Context, t *testing.T, c *lab.Cluster) (row lab.Active) {
	t.Helper()
	var epoch int64
	conn := connect(ctx, t, c.Metastore().Admin())
	must(t, conn.QueryRow(ctx, "SELECT epoch, node FROM duoflow.fence WHERE job = 'scheduler'").Scan(&epoch, &row.Node))
	row.Epoch = uint64(epoch)
	return row
}
