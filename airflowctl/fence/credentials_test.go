package fence_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

func TestRoleNamesAreReadBack(t *testing.T) {
	for _, group := range []string{"airflow", "a_b", "e9_e7"} {
		for _, name := range []string{"scheduler", "etl", "a-e5"} {
			for _, epoch := range []uint64{1, 17, fence.MaxEpoch} {
				role := fence.RoleName(group, name, epoch)
				g, j, e, ok := fence.ParseRole(role)
				if !ok || g != group || j != name || e != epoch {
					t.Errorf("ParseRole(%s) = %s, %s, %d, %v", role, g, j, e, ok)
				}
			}
		}
	}
	for _, role := range []string{"", "df_", "df_e1", "df_g_e1", "df_g_j_e0", "df_g_j_e01", "df_g_j_e+1", "df_g_J_e1", "xf_g_j_e1", "df_g_j_e9999999999999999999", "df__j_e1"} {
		if g, j, e, ok := fence.ParseRole(role); ok {
			t.Errorf("ParseRole(%q) = %s, %s, %d", role, g, j, e)
		}
	}
}

func FuzzParseRole(f *testing.F) {
	f.Add("df_airflow_scheduler_e17", uint64(17))
	f.Add("df_a_e1_b_e2", uint64(fence.MaxEpoch))
	f.Fuzz(func(t *testing.T, role string, epoch uint64) {
		g, j, e, ok := fence.ParseRole(role)
		if !ok {
			if g+j != "" || e != 0 {
				t.Errorf("ParseRole(%q) = %s, %s, %d beside false", role, g, j, e)
			}
			return
		}
		if fence.RoleName(g, j, e) != role || e == 0 || e > fence.MaxEpoch {
			t.Errorf("ParseRole(%q) = %s, %s, %d", role, g, j, e)
		}
		epoch = epoch%fence.MaxEpoch + 1
		if g2, j2, e2, ok := fence.ParseRole(fence.RoleName(g, j, epoch)); !ok || g2 != g || j2 != j || e2 != epoch {
			t.Errorf("%s, %s, %d became %s, %s, %d, %v", g, j, epoch, g2, j2, e2, ok)
		}
	})
}

func TestNewReportsEveryFault(t *testing.T) {
	_, err := fence.New(fence.Config{Job: "Big Job", Group: strings.Repeat("g", 50), DSN: "host=h sslmode=perhaps", LockTimeout: 1})
	for _, want := range []string{"job ", "63", "sslmode", "lock timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %s", err, want)
		}
	}
	if _, err := fence.New(fence.Config{Job: "doctor", Group: "g", DSN: "host=h"}); err == nil {
		t.Error("the doctor's name is taken as a job")
	}
	secret := "s3cr3t"
	for _, dsn := range []string{"postgres://u:" + secret + "@h:x/db", "host=h password=" + secret + " port=x", "postgres://u:" + secret + "@h/db?%zz"} {
		if _, err := fence.New(fence.Config{Job: job, Group: "g", DSN: dsn}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("DSN with a fault: err = %v", err)
		}
	}
}

// The job must reach the same servers in the same way as the fencer does.
func TestCredentialsCarryTheDSN(t *testing.T) {
	b := newBench(t)
	port := server.Port()
	login, err := pgx.ParseConfig(b.a)
	if err != nil {
		t.Fatal(err)
	}
	hosts := fmt.Sprintf("127.0.0.1:%d,localhost:%d", freePort(t), port)
	for _, dsn := range []string{
		fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=prefer&target_session_attrs=read-write&connect_timeout=1", login.User, login.Password, hosts, login.Database),
		fmt.Sprintf("host='%s' port=%s user=%s password='%s' dbname = %s sslmode=prefer target_session_attrs=read-write connect_timeout=1",
			"127.0.0.1,localhost", strings.ReplaceAll(strings.ReplaceAll(hosts, "127.0.0.1:", ""), "localhost:", ""), login.User, login.Password, login.Database),
	} {
		f := b.fencer(dsn)
		epoch := uint64(1)
		fmt.Sscan(b.query("SELECT epoch + 1 || '' FROM duoflow.fence WHERE job = $1", job), &epoch)
		credentials := take(t, f, claim(epoch, "a"))
		want := fence.Credentials{
			Host: "127.0.0.1", Port: credentials.Port, More: []fence.Endpoint{{Host: "localhost", Port: uint16(port)}},
			Database: b.database, Role: b.role(epoch), Password: credentials.Password,
			SSLMode: "prefer", TargetSessionAttrs: "read-write", ConnectTimeout: "1",
		}
		if !reflect.DeepEqual(credentials, want) || len(credentials.Password) < 20 {
			t.Errorf("credentials = %+v, want %+v", credentials, want)
		}
		mustExec(t, open(t, credentials.DSN()), insertW, epoch)
		path := filepath.Join(t.TempDir(), "service")
		if err := fence.WriteServiceFile(path, credentials.ServiceFile("airflow"), -1, -1); err != nil {
			t.Fatal(err)
		}
		mustExec(t, open(t, "service=airflow servicefile="+path), insertW, epoch)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	return 1 // nothing listens on tcpmux
}

func TestServiceFileIsPrivateAndBelongsToOneLife(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "service")
	first := fence.Credentials{Host: "h", Database: "d", Role: "r1", Password: "p"}.ServiceFile("airflow")
	if want := "[airflow]\nhost=h\nport=5432\ndbname=d\nuser=r1\npassword=p\n"; string(first) != want {
		t.Errorf("text = %q, want %q", first, want)
	}
	old := syscall.Umask(0)
	err := fence.WriteServiceFile(path, first, os.Getuid(), os.Getgid())
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode = %v, %v", info.Mode(), err)
	}
	if err := fence.WriteServiceFile(path, first, -1, -1); err != nil {
		t.Errorf("the same text again: %v", err)
	}
	second := fence.Credentials{Host: "h", Database: "d", Role: "r2", Password: "p"}.ServiceFile("airflow")
	if err := fence.WriteServiceFile(path, second, -1, -1); !errors.Is(err, fence.ErrServiceFileUsed) {
		t.Errorf("another life's text: err = %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != string(first) {
		t.Errorf("file = %q", text)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d files are left, want 1", len(entries))
	}
	if err := fence.WriteServiceFile(filepath.Join(dir, "no", "such"), first, -1, -1); err == nil {
		t.Error("a missing folder is no error")
	}
}

func TestServiceFileIsGivenToTheJobsUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service")
	err := fence.WriteServiceFile(path, []byte("[s]\n"), 65534, 65534)
	if os.Geteuid() != 0 {
		if err == nil {
			t.Error("a plain user gave a file away")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 65534 || stat.Gid != 65534 || info.Mode().Perm() != 0o600 {
		t.Errorf("owner %d:%d mode %v", stat.Uid, stat.Gid, info.Mode())
	}
}

func TestVerifierIsWhatPostgresTakes(t *testing.T) {
	b := newBench(t)
	for i, password := range []string{"x", "p'w\\", "a b~"} {
		verifier, err := fence.Verifier(password)
		if err != nil {
			t.Fatal(err)
		}
		role := fmt.Sprintf("v%d_%s", i, b.group)
		mustExec(t, b.admin, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", role, verifier))
		if got := b.query("SELECT rolpassword FROM pg_authid WHERE rolname = $1", role); got != verifier {
			t.Errorf("server keeps %s, want the verifier as it is", got)
		}
		open(t, server.DSN(role, password, b.database))
	}
	if _, err := fence.Verifier("päss"); err == nil {
		t.Error("a password that needs SASLprep is taken")
	}
}
