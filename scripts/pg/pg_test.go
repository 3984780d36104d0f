package pg_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/pg"
)

// childEnv makes this test binary start a server, print its pid and wait to be killed.
const childEnv = "DUOFLOW_PG_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	server, err := pg.Start(context.Background(), pg.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.PID())
	select {}
}

func start(t *testing.T, options pg.Options) *pg.Server {
	t.Helper()
	server, err := pg.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return server
}

func query(t *testing.T, dsn, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var answer string
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestServerKeepsItsDataOverKillAndRestart(t *testing.T) {
	server := start(t, pg.Options{Settings: map[string]string{"wal_level": "logical"}})
	if got := query(t, server.Superuser(), "SHOW wal_level"); got != "logical" {
		t.Errorf("wal_level = %s, want the asked one", got)
	}
	if got := query(t, server.Superuser(), "SHOW server_version_num"); !strings.HasPrefix(got, strconv.Itoa(server.Version())) {
		t.Errorf("Version() = %d, server says %s", server.Version(), got)
	}
	conn, err := pgx.Connect(t.Context(), server.Superuser())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE kept AS SELECT 'yes' AS word"); err != nil {
		t.Fatal(err)
	}
	first := server.PID()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if server.PID() != 0 {
		t.Error("a killed server has a pid")
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a session survived the kill")
	}
	for range 2 {
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := query(t, server.Superuser(), "SELECT word FROM kept"); got != "yes" || server.PID() == first {
			t.Errorf("after restart: word %q, pid %d", got, server.PID())
		}
	}
}

func TestWrongPasswordIsRefused(t *testing.T) {
	server := start(t, pg.Options{})
	conn, err := pgx.Connect(t.Context(), server.DSN("postgres", "guess", "postgres"))
	if err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("any password is let in")
	}
	if !strings.Contains(err.Error(), "28P01") {
		t.Errorf("err = %v, want 28P01", err)
	}
}

func TestServerDiesWithTheProcessThatStartedIt(t *testing.T) {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("child said %q", line)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for running(pid) {
		if time.Now().After(deadline) {
			t.Fatalf("postmaster %d outlived its starter", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// running is false for a zombie: nobody may reap an orphan inside a container.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ") && syscall.Kill(pid, 0) == nil
}

func TestMissingBinariesNameThePackage(t *testing.T) {
	_, err := pg.Start(t.Context(), pg.Options{Bin: t.TempDir()})
	if !errors.Is(err, pg.ErrNoBinaries) || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("err = %v", err)
	}
}
