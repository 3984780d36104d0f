package pg

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

const (
	tempPrefix = "duoflow-pg-"
	lockName   = "in-use"
	hba        = `# type database user address method
local all         all              scram-sha-256
host  all         all 0.0.0.0/0    scram-sha-256
host  all         all ::/0         scram-sha-256
host  replication all 0.0.0.0/0    scram-sha-256
host  replication all ::/0         scram-sha-256
`
)

// makeTemp makes a folder of our own that the account can enter, and sweeps those that killed
// processes left behind. The lock is held until the returned file is closed.
func makeTemp(a *account) (dir string, lock *os.File, err error) {
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if !a.canEnter(parent) {
			continue
		}
		sweep(parent)
		if dir, err = os.MkdirTemp(parent, tempPrefix); err != nil {
			return "", nil, fmt.Errorf("make data directory: %w", err)
		}
		if lock, err = lockDir(dir); err != nil {
			return "", nil, err
		}
		return dir, lock, a.own(dir)
	}
	return "", nil, fmt.Errorf("make data directory: the server's user can enter neither %s nor /tmp nor /var/tmp", os.TempDir())
}

// lockDir takes the lock before the file gets its final name, so a sweep never sees it free.
func lockDir(dir string) (*os.File, error) {
	early := filepath.Join(dir, lockName+".new")
	file, err := os.OpenFile(early, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make lock file: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock %s: %w", early, err)
	}
	return file, os.Rename(early, filepath.Join(dir, lockName))
}

// sweep removes the folders whose lock nobody holds any more. A failure only leaves litter.
func sweep(parent string) {
	found, _ := filepath.Glob(filepath.Join(parent, tempPrefix+"*"))
	for _, dir := range found {
		file, err := os.Open(filepath.Join(dir, lockName))
		if err != nil {
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = file.Close()
	}
}

// initData runs initdb and writes the configuration.
func (s *Server) initData(ctx context.Context) error {
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", s.data, err)
	}
	if err := s.account.own(s.data); err != nil {
		return fmt.Errorf("give %s to the server's user: %w", s.data, err)
	}
	if !s.account.canEnter(s.data) {
		return fmt.Errorf("use %s: the server's user cannot enter one of its parent folders", s.data)
	}
	if err := s.initdb(ctx); err != nil {
		return err
	}
	if err := s.writeOwned("pg_hba.conf", []byte(hba)); err != nil {
		return err
	}
	return s.writeOwned("postgresql.auto.conf", s.configuration())
}

func (s *Server) initdb(ctx context.Context) error {
	secret := filepath.Join(filepath.Dir(s.data), "password")
	if err := os.WriteFile(secret, []byte(s.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	defer os.Remove(secret)
	if err := s.account.own(secret); err != nil {
		return fmt.Errorf("give password file to the server's user: %w", err)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), "-D", s.data, "-U", superuser,
		"--pwfile", secret, "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")
	cmd.SysProcAttr = s.account.attributes(syscall.SIGKILL)
	cmd.Dir = s.data
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (s *Server) writeOwned(name string, text []byte) error {
	path := filepath.Join(s.data, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := s.account.own(path); err != nil {
		return fmt.Errorf("give %s to the server's user: %w", name, err)
	}
	return nil
}

// configuration is a postgresql.auto.conf; the port is given on the command line.
func (s *Server) configuration() []byte {
	settings := map[string]string{
		"listen_addresses":        strings.Join(s.listen, ","),
		"unix_socket_directories": "",
		"password_encryption":     "scram-sha-256",
		"fsync":                   "off",
		"shared_buffers":          "32MB",
		"max_connections":         "200",
		"log_line_prefix":         "%m [%p] %q%u@%d ",
	}
	for name, value := range s.settings {
		settings[name] = value
	}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	sort.Strings(names)
	var text bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&text, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return text.Bytes()
}
