package aggregate

import (
	"database/sql"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// A database sees the files of its job and nothing else, whatever SQL it is given.
func TestNothingElseIsReached(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret.csv")
	if err := os.WriteFile(secret, []byte("a,b\n1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := newDuck(Config{})
	if err != nil {
		t.Fatal(err)
	}
	err = d.with(t.Context(), Job{Dir: t.TempDir()}, func(db *sql.Conn) error {
		for _, text := range []string{
			"SELECT * FROM read_csv('" + secret + "')",
			"SELECT * FROM read_parquet('http://" + listener.Addr().String() + "/a.parquet')",
			"INSTALL httpfs FROM 'http://" + listener.Addr().String() + "'",
			"LOAD httpfs",
			"ATTACH '" + dir + "/x.db'",
			"COPY (SELECT 1) TO '" + dir + "/out.csv'",
			"SET enable_external_access = true",
			"SET memory_limit = '8GB'",
		} {
			if _, err := db.ExecContext(t.Context(), text); err == nil {
				t.Errorf("%s: done", text)
			}
		}
		var limit string
		var threads int
		if err := db.QueryRowContext(t.Context(), "SELECT current_setting('memory_limit'), current_setting('threads')").Scan(&limit, &threads); err != nil {
			return err
		}
		if !strings.HasPrefix(limit, "512.0 MiB") || threads != d.threads {
			t.Errorf("limited to %s and %d threads", limit, threads)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("%d connections were made", n)
	}
}
