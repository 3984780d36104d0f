package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/pg"
)

func startPostgres(t *testing.T) *pg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	server, err := pg.Start(ctx, pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Errorf("stop Postgres: %v", err)
		}
	})
	return server
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	if _, err := connect(t, dsn).Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	var value string
	if err := connect(t, dsn).QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// The whole way of an administrator on a real server: init, init again, doctor.
func TestMetastoreInitAndDoctor(t *testing.T) {
	server := startPostgres(t)
	file := filepath.Join(t.TempDir(), "b.pw")
	if err := os.WriteFile(file, []byte("pw of b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctl := console{env: map[string]string{"DUOCTL_ADMIN_DSN": server.Superuser(), "DUOCTL_PASSWORD_FENCER_A": "pw-of-a"}}
	args := []string{"metastore", "init", "--fencer", "fencer_a", "--fencer", "fencer_b", "--fencer", "fencer_c",
		"--password-file", "fencer_b=" + file, "--yes"}
	for range 2 {
		got := ctl.run(t, args...)
		got.want(t, exitOK)
		if !strings.Contains(got.out, "fencer_c: no password was given") || strings.Contains(got.out, "fencer_a: no password") {
			t.Errorf("output:\n%s", got.out)
		}
	}
	if got := query(t, server.Superuser(), "SELECT string_agg(job, ' ' ORDER BY job) FROM duoflow.fence"); !strings.Contains(got, "scheduler") {
		t.Errorf("jobs = %s", got)
	}
	if got := query(t, server.DSN("fencer_b", "pw of b", "postgres"), "SELECT current_user::text"); got != "fencer_b" {
		t.Errorf("user = %s", got)
	}
	doctor := console{env: map[string]string{"DUOCTL_FENCER_DSN": server.DSN("fencer_a", "pw-of-a", "postgres")}}
	got := doctor.run(t, "metastore", "doctor", "-o", "json")
	got.want(t, exitOK)
	var answer struct {
		Mode     string
		Findings []struct{ Ok bool }
	}
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil || answer.Mode != "fenced" || len(answer.Findings) == 0 {
		t.Errorf("answer = %+v, err = %v", answer, err)
	}
	got = doctor.run(t, "metastore", "doctor", "--schedule")
	got.want(t, exitOK)
	if !strings.Contains(got.out, "duoflow.run") {
		t.Errorf("output:\n%s", got.out)
	}
	execute(t, server.Superuser(), "DROP TABLE duoflow.run")
	doctor.run(t, "metastore", "doctor").want(t, exitOK)
	got = doctor.run(t, "metastore", "doctor", "--schedule")
	got.want(t, exitFailed, "findings that are not ok")
	if strings.Contains(got.out, "UNSAFE") || !strings.Contains(got.out, "duoflow.run is missing") {
		t.Errorf("output:\n%s", got.out)
	}
	got = doctor.run(t, "metastore", "doctor", "--group", "other")
	got.want(t, exitFailed, "findings that are not ok")
	if !strings.Contains(got.out, "lease-only (UNSAFE)") {
		t.Errorf("output:\n%s", got.out)
	}
}

func TestMetastoreInitAsks(t *testing.T) {
	server := startPostgres(t)
	ctl := console{env: map[string]string{"DUOCTL_ADMIN_DSN": server.Superuser()}, terminal: true, input: "n\n"}
	ctl.run(t, "metastore", "init", "--fencer", "fencer_a").want(t, exitFailed, "database postgres at 127.0.0.1:", "nothing was changed")
	ctl.terminal = false
	ctl.run(t, "metastore", "init", "--fencer", "fencer_a").want(t, exitUsage, "--yes")
	if got := query(t, server.Superuser(), "SELECT count(*)::text FROM pg_roles WHERE rolname = 'fencer_a'"); got != "0" {
		t.Error("the login was made")
	}
}

func TestMetastoreInitPrints(t *testing.T) {
	ctl := console{env: map[string]string{"DUOCTL_PASSWORD_FENCER_A": "secret-of-a"}}
	for _, flag := range []string{"--print", "--dry-run"} {
		got := ctl.run(t, "metastore", "init", flag, "--fencer", "fencer_a", "--job", "etl", "--group", "lightning")
		got.want(t, exitOK)
		for _, want := range []string{"BEGIN;", "COMMIT;", `"fencer_a"`, "'etl'", `"lightning"`, "SCRAM-SHA-256$"} {
			if !strings.Contains(got.out, want) {
				t.Errorf("lacks %q", want)
			}
		}
		if strings.Contains(got.out, "secret-of-a") {
			t.Error("the password is in the SQL")
		}
	}
}

func TestMetastoreRefusals(t *testing.T) {
	pw := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(pw, []byte("caf\xe9"), 0o600); err != nil {
		t.Fatal(err)
	}
	init := []string{"metastore", "init", "--yes", "--fencer", "fencer_a"}
	for _, test := range []struct {
		name string
		env  map[string]string
		args []string
		code int
		want []string
	}{
		{"no fencer", nil, []string{"metastore", "init", "--job", "B", "--yes"}, exitUsage, []string{"--fencer", `"B"`}},
		{"fencer twice", nil, append(init, "--fencer", "fencer_a"), exitUsage, []string{"twice"}},
		{"no connection", nil, init, exitUsage, []string{"DUOCTL_ADMIN_DSN", "--print"}},
		{"unreadable connection", nil, append(init, "--admin-dsn", "postgres://u:secret@h:port/db"), exitUsage, []string{"cannot be read"}},
		{"nobody listens", nil, append(init, "--admin-dsn", "postgres://u:secret@"+closedPort(t)+"/db"), exitFailed,
			[]string{"database db at 127.0.0.1:", "connection refused"}},
		{"password of nobody", nil, append(init, "--password-file", "x="+pw), exitUsage, []string{"--password-file"}},
		{"missing password file", nil, append(init, "--password-file", "fencer_a=/nonexistent"), exitUsage, []string{"/nonexistent"}},
		{"strange password", nil, append(init, "--password-file", "fencer_a="+pw), exitUsage, []string{"printable ASCII"}},
		{"doctor without connection", nil, []string{"metastore", "doctor"}, exitUsage, []string{"DUOCTL_FENCER_DSN"}},
		{"doctor of a strange job", map[string]string{"DUOCTL_FENCER_DSN": "postgres://u:secret@h/d"},
			[]string{"metastore", "doctor", "--job", "A B"}, exitUsage, []string{"A B"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := console{env: test.env}.run(t, test.args...)
			got.want(t, test.code, test.want...)
			if strings.Contains(got.out+got.err, "secret") {
				t.Errorf("a password is shown:\n%s%s", got.out, got.err)
			}
		})
	}
}
