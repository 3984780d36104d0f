//go:build pgbouncer

package fence_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// queryWait is query_wait_timeout. PgBouncer's default is 120 s, and that is how long a client of a
// fenced role would hang: its server connection is gone, and PgBouncer keeps trying to open another.
const queryWait = 2 * time.Second

// auth_query: epoch roles come and go, so no list of users can hold them. A fenced role is unknown.
const lookupSQL = `CREATE FUNCTION public.pooler_lookup(name text) RETURNS TABLE (usename text, passwd text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS
$$SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = name AND rolcanlogin AND NOT rolsuper$$`

// pooler starts PgBouncer in front of the bench's database and returns its port.
func pooler(b *bench, mode string) int {
	b.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	mustExec(b.t, b.admin, lookupSQL)
	mustExec(b.t, b.admin, "REVOKE EXECUTE ON FUNCTION public.pooler_lookup FROM PUBLIC")
	mustExec(b.t, b.admin, "CREATE ROLE pooler_"+b.group+" LOGIN PASSWORD 'pw'")
	mustExec(b.t, b.admin, "GRANT EXECUTE ON FUNCTION public.pooler_lookup TO pooler_"+b.group)

	dir, err := os.MkdirTemp("/tmp", "duoflow-pooler-")
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { os.RemoveAll(dir) })
	writeFile(b.t, filepath.Join(dir, "users"), fmt.Sprintf("%q \"pw\"\n", "pooler_"+b.group))
	config := filepath.Join(dir, "config")
	writeFile(b.t, config, fmt.Sprintf(`[databases]
%[1]s = host=127.0.0.1 port=%[2]d dbname=%[1]s auth_user=pooler_%[3]s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[4]d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %[5]s/users
auth_query = SELECT usename, passwd FROM public.pooler_lookup($1)
pool_mode = %[6]s
query_wait_timeout = %[7]d
server_login_retry = 1
`, b.database, b.server.Port(), b.group, port, dir, mode, int(queryWait.Seconds())))
	runPooler(b, dir, config)
	eventually(b.t, "pooler listens", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return port
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// runPooler runs it as another user, because it refuses to be root.
func runPooler(b *bench, dir, config string) {
	b.t.Helper()
	cmd := exec.Command("/usr/sbin/pgbouncer", config)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := os.Chmod(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		nobody, err := user.Lookup("nobody")
		if err != nil {
			b.t.Fatal(err)
		}
		uid, _ := strconv.ParseUint(nobody.Uid, 10, 32)
		gid, _ := strconv.ParseUint(nobody.Gid, 10, 32)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatalf("start pgbouncer (Debian package pgbouncer; scripts/test-pg installs it): %v", err)
	}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && b.t.Failed() {
			b.t.Logf("pgbouncer said:\n%s", text)
		}
	})
}

// through is the job's DSN by way of the pooler. The simple protocol: in transaction mode another
// server connection may know nothing of a prepared statement.
func through(credentials fence.Credentials, port int) string {
	return (&url.URL{
		Scheme: "postgres", User: url.UserPassword(credentials.Role, credentials.Password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/" + credentials.Database,
		RawQuery: "sslmode=disable&default_query_exec_mode=simple_protocol",
	}).String()
}

// The job goes through PgBouncer, the fencer does not. The fence reaches the pooler's server
// connections as it reaches any session of the role.
func TestTheFenceHoldsBehindPgBouncer(t *testing.T) {
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			b := newBench(t)
			port := pooler(b, mode)
			f := b.fencer(b.a)
			wantPoolerRefused(t, b, port)
			first := take(t, f, claim(1, "a"))
			idle, busy, openTx := open(t, through(first, port)), open(t, through(first, port)), open(t, through(first, port))
			for _, conn := range []*pgx.Conn{idle, busy, openTx} {
				mustExec(t, conn, insertW, 1)
			}
			mustExec(t, openTx, "BEGIN")
			mustExec(t, openTx, insertW, 1)
			running := make(chan error, 1)
			go func() {
				_, err := busy.Exec(context.Background(), "INSERT INTO public.w (epoch) SELECT 1 FROM pg_sleep(5)")
				running <- err
			}()
			eventually(t, "statement runs", func() bool {
				return b.query("SELECT count(*)::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") == "1"
			})
			mustExec(t, idle, insertW, 1) // in transaction mode over a third server connection, then free
			if b.sessions(1) != 3 {
				t.Fatalf("the pooler has %d server connections of the role, want 3", b.sessions(1))
			}

			second := claim(2, "a")
			credentials := mustTake(t, f, second)
			_, err := idle.Exec(t.Context(), insertW, 1)
			wantCode(t, "write before the drain", err, "42501")
			mustDrain(t, f, second) // sees the pooler's connections, and ends them
			eventually(t, "the pooler's server connections gone", func() bool { return b.sessions(1) == 0 })
			own := open(t, through(credentials, port))
			mustExec(t, own, insertW, 2)

			wantCode(t, "the running statement", <-running, "57P01", "08P01", "closed")
			_, err = openTx.Exec(t.Context(), "COMMIT")
			wantCode(t, "COMMIT of the open transaction", err, "57P01", "08P01", "closed")
			began := time.Now()
			_, err = idle.Exec(t.Context(), insertW, 1)
			if mode == "session" {
				wantCode(t, "next write", err, "57P01", "08P01", "closed")
			} else { // there is no session to end: it waits for a login that the server refuses
				wantCode(t, "next write", err, "08P01")
			}
			t.Logf("the fenced client's next write: %v, after %s", err, time.Since(began).Round(time.Millisecond))
			if took := time.Since(began); took > queryWait+2*time.Second {
				t.Errorf("the fenced client hung for %s", took)
			}
			if conn, err := connectSoon(through(first, port)); err == nil {
				closeConn(conn)
				t.Error("the fenced role can log in through the pooler")
			}
			mustExec(t, own, insertW, 2)
			if got := b.query("SELECT string_agg(epoch::text, ' ' ORDER BY id) FROM public.w"); got != "1 1 1 1 2 2" {
				t.Errorf("epochs in the table = %s", got)
			}
		})
	}
}

// wantPoolerRefused checks that a fencer which goes through the pooler is told so: its session state
// would be another's, and it could not end who blocks it.
func wantPoolerRefused(t *testing.T, b *bench, port int) {
	t.Helper()
	dsn := strings.Replace(b.a, fmt.Sprintf(":%d/", b.server.Port()), fmt.Sprintf(":%d/", port), 1)
	report, err := b.coldFencer(dsn + "&default_query_exec_mode=exec").Check(t.Context())
	got := finding(report, "fencer reaches the server itself")
	if err != nil || report.Mode != fence.ModeLeaseOnly || got.OK || got.Mend == "" {
		t.Errorf("a fencer behind the pooler: mode %s, %+v, %v", report.Mode, got, err)
	}
}
