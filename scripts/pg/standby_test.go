package pg_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/pg"
)

func standbyOf(t *testing.T, primary *pg.Server, sync bool) *pg.Server {
	t.Helper()
	standby, err := primary.Standby(t.Context(), sync)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := standby.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return standby
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestASynchronousStandbyHasEveryCommitAndCanTakeOver(t *testing.T) {
	primary := start(t, pg.Options{})
	execute(t, primary.Superuser(), "CREATE TABLE early AS SELECT 'early' AS word")
	standby := standbyOf(t, primary, true)
	execute(t, primary.Superuser(), "CREATE TABLE late AS SELECT 'late' AS word")
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := query(t, standby.Superuser(), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Fatalf("the standby is in recovery: %s", got)
	}
	if err := standby.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, standby.Superuser(), "SELECT early.word || late.word FROM early, late"); got != "earlylate" {
		t.Errorf("words = %s", got)
	}
	execute(t, standby.Superuser(), "DROP TABLE early")
	if got := query(t, standby.Superuser(), "SHOW synchronous_standby_names"); got != "" {
		t.Errorf("the new primary waits for %q", got)
	}
}

func TestCommitsWaitForASynchronousStandbyOnly(t *testing.T) {
	primary := start(t, pg.Options{})
	lazy := standbyOf(t, primary, false)
	if err := lazy.Kill(); err != nil {
		t.Fatal(err)
	}
	execute(t, primary.Superuser(), "CREATE TABLE without ()")
	strict := standbyOf(t, primary, true)
	if err := strict.Kill(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), primary.Superuser())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := conn.Exec(ctx, "CREATE TABLE waits ()"); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("a commit without its synchronous standby: err = %v", err)
	}
	if err := strict.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	execute(t, primary.Superuser(), "CREATE TABLE goeson ()")
}

func TestAStandbyTakesAPortThatClientsKnow(t *testing.T) {
	primary := start(t, pg.Options{})
	known := primary.Port()
	if err := primary.RestartElsewhere(t.Context()); err != nil {
		t.Fatal(err)
	}
	if primary.Port() == known {
		t.Fatalf("the server is still on port %d", known)
	}
	standby, err := primary.StandbyOn(t.Context(), known, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Stop(context.Background()) })
	if standby.Port() != known {
		t.Errorf("the standby is on port %d, want %d", standby.Port(), known)
	}
	if got := query(t, standby.Superuser(), "SELECT pg_is_in_recovery()::text"); got != "true" {
		t.Errorf("in recovery: %s", got)
	}
}
