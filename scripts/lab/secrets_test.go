package lab_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// crashing is a daemon that tells all it can in its log and would leave a core.
var crashing = []string{"sh", "-c", `ulimit -c unlimited; exec "$@" --log-level debug`, "sh"}

// safe is what nobody may see, and who has.
type safe struct {
	t  *testing.T
	mu sync.Mutex
	// secrets by what they are.
	secrets map[string]string
}

func (s *safe) add(what, secret string) {
	s.t.Helper()
	if len(secret) < 8 {
		s.t.Fatalf("%s is no secret", what)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[what] = secret
}

// found is which secrets are in a text.
func (s *safe) found(text []byte) (what []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, secret := range s.secrets {
		if bytes.Contains(text, []byte(secret)) {
			what = append(what, name)
		}
	}
	return what
}

// search wants none of them in a text, but those that may be there.
func (s *safe) search(where string, text []byte, allowed ...string) {
	s.t.Helper()
next:
	for _, what := range s.found(text) {
		for _, may := range allowed {
			if what == may {
				continue next
			}
		}
		s.t.Errorf("%s is in %s", what, where)
	}
}

// jobPassword is what the operator gives the job in its environment.
const jobPassword = "the job's own password"

// learn takes note of what a node knows.
func (s *safe) learn(l *lab.Lab, n *lab.Node) {
	s.t.Helper()
	password := regexp.MustCompile(`dsn: \S+://[^:]+:([^@]+)@`).FindSubmatch(read(s.t, n.ConfigPath()))
	if password != nil { // a witness has none
		s.add("the fencer's password of "+n.Name, string(password[1]))
	}
	body := strings.Split(string(read(s.t, filepath.Join(l.Dir, "tls", n.Name+".key"))), "\n")
	s.add("the TLS key of "+n.Name, body[1])
	s.add("the gossip key", strings.TrimSpace(string(read(s.t, filepath.Join(l.Dir, "tls", "gossip.key")))))
}

// walk looks through a data directory: what others may read holds nothing, and nobody else may write. It learns the epochs' passwords.
func (s *safe) walk(dir string) (passwords int) {
	s.t.Helper()
	must(s.t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a life that is over
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if mode := info.Mode(); mode&0o022 != 0 && mode&fs.ModeSymlink == 0 {
			s.t.Errorf("%s has mode %s", path, mode)
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, password := range regexp.MustCompile(`(?m)^password=(\S+)$`).FindAllSubmatch(text, -1) {
			s.add("an epoch's password, "+path, string(password[1]))
			passwords++
		}
		if info.Mode()&0o077 != 0 {
			s.search(fmt.Sprintf("%s, mode %s", path, info.Mode()), text)
		}
		return nil
	}))
	return passwords
}

// processes looks at the command lines and, of the processes on a host but the daemons, at the environments.
func (s *safe) processes(l *lab.Lab, c *lab.Cluster) {
	s.t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(s.t, err)
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil { // it may have ended
			s.search(path+" "+string(text), text)
		}
	}
	for name, n := range c.Nodes {
		for _, pid := range pids(s.t, l.Host(name)) {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
			if err == nil && pid != n.Process().PID() {
				s.search(fmt.Sprintf("the environment of %d", pid), text, "the job's password")
			}
		}
	}
}

// surfaces asks the nodes for all they show.
func (s *safe) surfaces(ctx context.Context, l *lab.Lab, c *lab.Cluster) {
	s.t.Helper()
	for _, verb := range []string{"status", "history", "explain", "logs", "topology", "doctor", "version"} {
		for _, format := range []string{"json", "yaml", "table"} {
			output, _, err := c.Ctl(ctx, verb, "-o", format)
			must(s.t, err)
			s.search("duoctl "+verb, []byte(output))
		}
	}
	web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: operatorTLS(s.t, l)}}
	for _, n := range c.Nodes {
		for _, page := range []string{"/", "/active", "/standby", "/witness", "/health", "/ready", "/metrics", "/events"} {
			answer, err := web.Get("https://" + n.HTTP() + page)
			if err != nil {
				continue // a node that has been ended
			}
			var text []byte
			if page == "/events" { // they have no end
				text = make([]byte, 64<<10)
				n, _ := answer.Body.Read(text)
				text = text[:n]
			} else {
				text, _ = io.ReadAll(answer.Body)
			}
			answer.Body.Close()
			if len(text) == 0 {
				s.t.Errorf("%s of %s is empty", page, n.Name)
			}
			s.search(page+" of "+n.Name, text)
		}
	}
}

// TestSecrets: passwords, keys and what the job was given are nowhere to be seen while a cluster does all it can do, nor after it has
// crashed.
func TestSecrets(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s := &safe{t: t, secrets: map[string]string{}}
	own := jobPassword + rand.Text()
	s.add("the job's password", own)
	job := shell(writer)
	job.Env = map[string]string{"JOB_PASSWORD": own}
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": job}, Detection: "wan"}) // a full machine is no reason to move
	for _, n := range c.Nodes {
		n.Wrap, n.Env = crashing, []string{"GOTRACEBACK=crash"}
		s.learn(l, n)
	}
	if len(s.secrets) != 7 {
		t.Fatalf("%d secrets are known", len(s.secrets))
	}
	must(t, c.Start())
	at, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	look := func() {
		awaitRow(ctx, t, conn, at)
		eventuallyWithin(t, time.Minute, "an epoch's password where it has to be", func() bool {
			return s.walk(c.Nodes["a"].DataDir())+s.walk(c.Nodes["b"].DataDir()) > 0
		})
		for _, n := range c.Nodes {
			s.walk(n.DataDir())
		}
		s.processes(l, c)
		s.surfaces(ctx, l, c)
	}
	look()
	mustCtl(ctx, t, c, "switchover", "--yes")
	at, err = c.AwaitActive(ctx, "scheduler", at.Epoch)
	must(t, err)
	look()

	// A fencer that is not let in any more: its errors are the database's own.
	standby := other(at.Node)
	forget(ctx, t, c, "fencer_"+standby)
	eventuallyWithin(t, time.Minute, "the standby says that it is not let in", func() bool {
		output, _, err := c.Ctl(ctx, "doctor", "--endpoint", c.Nodes[standby].Admin())
		must(t, err)
		return strings.Contains(output, "password authentication failed")
	})
	look()

	victim := c.Nodes[at.Node]
	crash(t, victim)
	s.surfaces(ctx, l, c)
	for _, n := range c.Nodes {
		log := read(t, n.LogPath())
		if !bytes.Contains(log, []byte("level=DEBUG")) {
			t.Errorf("the log of %s does not tell all it can", n.Name)
		}
		s.search("the log of "+n.Name, log)
	}
	s.configurations(ctx, victim)
}

// crash ends a daemon so that a core is due, and wants none.
func crash(t *testing.T, victim *lab.Node) {
	t.Helper()
	must(t, victim.Process().Signal(syscall.SIGABRT))
	<-victim.Process().Done()
	var exit *exec.ExitError
	if !errors.As(victim.Process().Err(), &exit) {
		t.Fatalf("it ended with %v", victim.Process().Err())
	}
	if status := exit.Sys().(syscall.WaitStatus); !status.Signaled() || status.CoreDump() {
		t.Errorf("it ended with %v, core: %v", exit, status.CoreDump())
	}
	must(t, filepath.WalkDir(filepath.Dir(victim.ConfigPath()), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && strings.HasPrefix(entry.Name(), "core") {
			t.Errorf("a core: %s", path)
		}
		return err
	}))
}

// forget changes a role's password and ends its sessions.
func forget(ctx context.Context, t *testing.T, c *lab.Cluster, role string) {
	t.Helper()
	conn, err := pgx.Connect(ctx, c.Metastore().Admin())
	must(t, err)
	defer conn.Close(ctx)
	for _, sql := range []string{
		"ALTER ROLE " + role + " PASSWORD 'another one'",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '" + role + "'",
	} {
		_, err := conn.Exec(ctx, sql)
		must(t, err)
	}
}

// configurations has duoflowd complain about its configuration in many ways.
func (s *safe) configurations(ctx context.Context, n *lab.Node) {
	s.t.Helper()
	root, err := lab.Root()
	must(s.t, err)
	sound := string(read(s.t, n.ConfigPath()))
	dir := s.t.TempDir()
	for name, text := range map[string]string{
		"a port that is none":  regexp.MustCompile(`(dsn: \S+@[^/]*)/`).ReplaceAllString(sound, "$1:port/"),
		"a line that is none":  strings.Replace(sound, "dsn:", "dsn", 1),
		"an unknown key":       strings.Replace(sound, "dsn:", "dns:", 1),
		"a list for a text":    regexp.MustCompile(`dsn: (\S+)`).ReplaceAllString(sound, "dsn: [$1]"),
		"a text for a mapping": regexp.MustCompile(`JOB_PASSWORD: (.*)`).ReplaceAllString(sound, "- $1"),
		"a key for a keyring":  regexp.MustCompile(`keyring: (\S+)/gossip.key`).ReplaceAllString(sound, "keyring: $1/"+n.Name+".key"),
		"a keyring for a key":  regexp.MustCompile(`key: (\S+)/\S+.key`).ReplaceAllString(sound, "key: $1/gossip.key"),
		"another database":     regexp.MustCompile(`(dsn: \S+@)`).ReplaceAllString(sound, "${1}nowhere.invalid,"),
	} {
		if text == sound {
			s.t.Errorf("%s: nothing is wrong", name)
		}
		path := filepath.Join(dir, "node.yaml")
		must(s.t, os.WriteFile(path, []byte(text), 0o600))
		for _, format := range []string{"text", "json"} {
			output, err := exec.CommandContext(ctx, filepath.Join(root, "bin", "duoflowd"), "--config", path, "--check", "-o", format).CombinedOutput()
			if name != "another database" && err == nil {
				s.t.Errorf("%s: nothing was found: %s", name, output)
			}
			s.search("the complaint about "+name, output)
		}
	}
}
