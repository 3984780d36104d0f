package airflowctl_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/fence"
)

// TestTheLedgerOfALife: the beginning and the end of a process tree are noted once each, with the time at which they were.
func TestTheLedgerOfALife(t *testing.T) {
	m := newMetastore(t)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sleep", "60"}, Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: &events{},
	})
	first := claim(1, "a")
	takeOver(t, j, first)
	must(t, j.Stop(t.Context(), 1, time.Second))
	must(t, j.Surrender(t.Context(), first))
	takeOver(t, j, claim(2, "a"))
	eventually(t, "all is noted", func() bool {
		return m.count(t, `SELECT count(*) FROM duoflow.event WHERE kind IN ('start', 'stop')`) == 3
	})
	// Within half a minute, for a statement may take its time: the note tells how long ago it was when it is sent.
	if got := m.count(t, `SELECT count(*) FROM duoflow.event s, duoflow.event e, duoflow.event n, duoflow.event g
		WHERE (s.epoch, s.kind, s.node) = (1, 'start', 'a') AND (e.epoch, e.kind, e.node) = (1, 'stop', 'a') AND (n.epoch, n.kind) = (2, 'take')
		  AND (g.epoch, g.kind) = (2, 'start') AND s.id < e.id AND e.id < g.id
		  AND s.at < e.at + interval '30 s' AND e.at < n.at + interval '30 s' AND n.at < g.at + interval '30 s'`); got != 1 {
		t.Error("the ledger says something else")
	}
}

// TestATakeoverDoesNotWaitForTheLedger: a note hangs in the database, and a life ends and the next one begins.
func TestATakeoverDoesNotWaitForTheLedger(t *testing.T) {
	m := newMetastore(t)
	m.exec(t, `CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.kind IN ('start', 'stop') THEN PERFORM pg_sleep(600); END IF; RETURN NEW; END $$;
		CREATE TRIGGER hold BEFORE INSERT ON duoflow.event FOR EACH ROW EXECUTE FUNCTION hold()`)
	j := newJob(t, airflowctl.Config{
		Node: "a", Kind: airflowctl.Command, Command: []string{"sleep", "60"}, Env: os.Environ(), FenceDSN: m.dsn["a"], Observer: &events{},
	})
	takeOver(t, j, claim(1, "a"))
	eventually(t, "the ledger hangs", func() bool {
		return m.count(t, `SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'INSERT INTO duoflow.event%'`) == 1
	})
	must(t, j.Stop(t.Context(), 1, time.Second))
	takeOver(t, j, claim(2, "a"))
	if n := m.count(t, `SELECT count(*) FROM duoflow.event`); n != 2 {
		t.Errorf("%d lines, want the two takes", n)
	}
	m.exec(t, `DROP TRIGGER hold ON duoflow.event`) // waits for who is held, which is ended by its daemon
	eventually(t, "it is noted later", func() bool {
		return m.count(t, `SELECT count(*) FROM duoflow.event WHERE kind IN ('start', 'stop')`) == 3
	})
}

// TestTheLedgerIsPatient: no note is written during a takeover, one that fails is tried again, and neither its order nor its time is lost.
func TestTheLedgerIsPatient(t *testing.T) {
	var written []string
	done, busy, tries := make(chan struct{}), 3, 0
	l := airflowctl.NewLedger(func(_ context.Context, note fence.Note) error {
		if tries++; tries < 3 {
			return errors.New("no such luck")
		}
		if ago := note.Ago(); ago < time.Hour || ago > time.Hour+time.Minute {
			t.Errorf("%s was %s ago", note.Moment, ago)
		}
		if written = append(written, fmt.Sprintf("%d %s", note.Epoch, note.Moment)); len(written) == 2 {
			close(done)
		}
		return nil
	}, func() bool {
		busy--
		if busy >= 0 && tries > 0 {
			t.Error("written during a takeover")
		}
		return busy >= 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	l.Tell(fence.Note{Epoch: 1, Moment: fence.Started}, time.Hour)
	l.Tell(fence.Note{Epoch: 1, Moment: fence.Stopped}, time.Hour)
	go func() { ended <- l.Run(ctx) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("not written")
	}
	cancel()
	must(t, <-ended)
	if got := strings.Join(written, ", "); got != "1 start, 1 stop" {
		t.Errorf("written %s", got)
	}
}

// TestTheLedgerIsBounded: what is told while nothing can be written takes no more room than so much, and nobody waits.
func TestTheLedgerIsBounded(t *testing.T) {
	var written []uint64
	done := make(chan struct{})
	l := airflowctl.NewLedger(func(_ context.Context, note fence.Note) error {
		if written = append(written, note.Epoch); note.Epoch == 1000 {
			close(done)
		}
		return nil
	}, func() bool { return false })
	for epoch := range uint64(1000) {
		l.Tell(fence.Note{Epoch: epoch + 1, Moment: fence.Started}, time.Hour)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("not written")
	}
	cancel()
	must(t, <-ended)
	if len(written) != 64 || written[0] != 937 {
		t.Errorf("%d written, from epoch %d on", len(written), written[0])
	}
}
