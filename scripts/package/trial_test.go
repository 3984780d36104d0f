//go:build packages

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/pg"
)

// distVariable names a folder with a release that is built already, of this commit.
const distVariable = "DUOFLOW_DIST"

// highest exposure that systemd-analyze may say the unit has; 10 is a unit without any protection.
const highest = 2.5

// TestPackages builds a release, and tries what came of it.
func TestPackages(t *testing.T) {
	image, err := filepath.Abs(filepath.Join(checkout, ".cache/packages/bookworm.tar"))
	if err != nil {
		t.Fatal(err)
	}
	dist := built(t)
	t.Run("lintian", func(t *testing.T) { lintian(t, dist) })
	t.Run("foreign", func(t *testing.T) { foreign(t, dist) })
	t.Run("reproducible", func(t *testing.T) { reproducible(t, dist) })
	t.Run("life", func(t *testing.T) { life(t, dist, image) })
}

// life takes the packages through it in a Debian of their own, each part after the one before.
func life(t *testing.T, dist, image string) {
	t.Helper()
	w := &world{whole: t, container: boot(t, image), dist: dist, old: aged(t, dist)}
	for _, part := range []struct {
		name string
		do   func()
	}{
		{"install", w.install}, {"documents", w.documents}, {"unit", w.unit}, {"configure", w.configure}, {"run", w.run},
		{"hang", w.hang}, {"stop", w.stop}, {"upgrade", w.upgrade}, {"remove", w.remove}, {"purge", w.purge},
	} {
		if !t.Run(part.name, func(t *testing.T) { w.container.t = t; part.do() }) {
			break
		}
	}
	w.container.t = t
	if t.Failed() {
		log, _ := w.try("journalctl", "--no-pager", "-n", "300")
		t.Log(log)
	}
}

// built is a release of this checkout.
func built(t *testing.T) string {
	t.Helper()
	t.Chdir(checkout)
	dist, err := filepath.Abs(".run/packages/dist")
	if err != nil {
		t.Fatal(err)
	}
	if given := os.Getenv(distVariable); given != "" {
		return given
	}
	if code := run(t.Context(), []string{"-out", dist}, os.Stdout, os.Stderr); code != 0 {
		t.Fatalf("the release ended with %d", code)
	}
	return dist
}

// aged are the packages of this machine's architecture as an older version, whose sample was another one.
func aged(t *testing.T, dist string) string {
	t.Helper()
	out := t.TempDir()
	debs, err := filepath.Glob(filepath.Join(dist, "*_"+runtime.GOARCH+".deb"))
	if err != nil || len(debs) == 0 {
		t.Fatalf("no packages in %s, %v", dist, err)
	}
	version := regexp.MustCompile(`(?m)^Version: .*$`)
	for _, deb := range debs {
		dir := filepath.Join(t.TempDir(), "x")
		outside(t, "dpkg-deb", "-R", deb, dir)
		control := filepath.Join(dir, "DEBIAN/control")
		edit(t, control, func(text string) string { return version.ReplaceAllString(text, "Version: 0.0.1") })
		if sample := filepath.Join(dir, "etc/duoflow/node.yaml"); strings.Contains(filepath.Base(deb), "duoflowd") {
			edit(t, sample, func(text string) string { return "# An older sample.\n" + text })
		}
		outside(t, "dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", dir, out)
	}
	return out
}

func edit(t *testing.T, path string, with func(string) string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(with(string(text))), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// world is the container with what the parts know of each other.
type world struct {
	*container
	whole     *testing.T // the test that the parts are of
	dist, old string
	before    []string // paths before anything was installed
	sample    string   // of the older version
	ips       [3]string
	said      *bufio.Reader // what the job says, a line at a time
	fifo      *os.File
	mainPID   string
}

// packages puts the packages of a folder where the container can see them.
func (w *world) packages(from string) []string {
	w.t.Helper()
	debs, err := filepath.Glob(filepath.Join(from, "*_"+runtime.GOARCH+".deb"))
	if err != nil || len(debs) == 0 {
		w.t.Fatalf("no packages in %s, %v", from, err)
	}
	var paths []string
	for _, deb := range debs {
		text, err := os.ReadFile(deb)
		if err != nil {
			w.t.Fatal(err)
		}
		w.put("/root/"+filepath.Base(deb), string(text), 0o644)
		paths = append(paths, "/root/"+filepath.Base(deb))
	}
	return paths
}

func (w *world) dpkg(args ...string) string {
	w.t.Helper()
	return w.do(append([]string{"dpkg", "--force-confold"}, args...)...)
}

// install: a daemon that nobody has configured is not started, and its files belong to whom they should.
func (w *world) install() {
	w.before = w.paths()
	said := w.dpkg(append([]string{"-i"}, w.packages(w.old)...)...)
	if !strings.Contains(said, "duoflowd is not started: fill in /etc/duoflow/node.yaml") {
		w.t.Errorf("dpkg said:\n%s", said)
	}
	w.fails(3, "systemctl", "is-active", "duoflowd") // inactive
	w.fails(1, "systemctl", "is-enabled", "duoflowd")
	for path, want := range map[string]string{
		"/etc/duoflow": "750 root duoflow", "/etc/duoflow/node.yaml": "640 root duoflow", "/var/lib/duoflow": "750 duoflow duoflow",
		"/usr/sbin/duoflowd": "755 root root", "/usr/bin/duoctl": "755 root root", "/usr/bin/duoetl": "755 root root",
	} {
		if got := w.do("stat", "-c", "%a %U %G", path); got != want {
			w.t.Errorf("%s is %s, not %s", path, got, want)
		}
	}
	if got := w.do("getent", "passwd", "duoflow"); !strings.HasSuffix(got, ":/var/lib/duoflow:/usr/sbin/nologin") {
		w.t.Errorf("the user is %s", got)
	}
	w.sample = w.get("/etc/duoflow/node.yaml")
	if said := w.fails(2, "duoflowd", "--check"); !strings.Contains(said, "tls/TODO.pem") {
		w.t.Errorf("the sample as it is: %s", said)
	}
	for _, program := range []string{"duoflowd version", "duoctl version --client", "duoetl --version"} {
		if said := w.do(strings.Fields(program)...); !strings.Contains(said, w.version()) {
			w.t.Errorf("%s: %s", program, said)
		}
	}
}

// version is what the programs of the release have to say, from the name of its archive.
func (w *world) version() string {
	all, err := filepath.Glob(filepath.Join(w.dist, "duoflow_*_linux_"+runtime.GOARCH+".tar.gz"))
	if err != nil || len(all) != 1 {
		w.t.Fatalf("archives: %v, %v", all, err)
	}
	number, rest, _ := strings.Cut(strings.Split(filepath.Base(all[0]), "_")[1], "~git")
	_, commit, _ := strings.Cut(rest, ".")
	commit, _, _ = strings.Cut(commit, "+")
	return strings.TrimSuffix(strings.ReplaceAll(number, "~", "-")+"+"+commit, "+")
}

// documents: manual pages without complaint, and completion that a shell takes.
func (w *world) documents() {
	for page, word := range map[string]string{
		"8 duoflowd": "--config", "1 duoctl": "switchover", "1 duoetl": "backfill", "5 duoflow-node.yaml": "data_dir", "5 duoflow-etl.yaml": "stages.s3",
	} {
		if text := w.do("sh", "-c", "MANWIDTH=200 man --warnings=all "+page+" 2>&1"); !strings.Contains(text, word) || strings.Contains(text, "warning:") {
			w.t.Errorf("man %s:\n%s", page, text)
		}
	}
	for _, program := range []string{"duoflowd", "duoctl", "duoetl"} {
		script := ". /usr/share/bash-completion/bash_completion; _completion_loader " + program + "; complete -p " + program
		if got := w.do("bash", "-c", script); !strings.Contains(got, "__start_"+program) {
			w.t.Errorf("bash completes %s with %q", program, got)
		}
	}
	for _, path := range []string{"zsh/vendor-completions/_duoctl", "fish/vendor_completions.d/duoctl.fish"} {
		if !strings.Contains(w.get("/usr/share/"+path), "duoctl") {
			w.t.Errorf("%s has nothing about duoctl", path)
		}
	}
}

var exposure = regexp.MustCompile(`Overall exposure level for duoflowd\.service: ([0-9.]+)`)

// unit: systemd has nothing against it, and says how much it is protected.
func (w *world) unit() {
	if said := w.do("systemd-analyze", "verify", "--man=yes", "duoflowd.service"); said != "" {
		w.t.Error(said)
	}
	for _, example := range []string{"root", "folders", "sudo"} {
		w.put("/etc/systemd/system/duoflowd.service.d/example.conf", w.get("/usr/share/doc/duoflowd/examples/"+example+".conf"), 0o644)
		if said := w.do("systemd-analyze", "verify", "duoflowd.service"); said != "" {
			w.t.Errorf("with %s.conf: %s", example, said)
		}
	}
	w.do("rm", "-r", "/etc/systemd/system/duoflowd.service.d")
	report := w.do("systemd-analyze", "security", "--offline=yes", "--no-pager", "/lib/systemd/system/duoflowd.service")
	found := exposure.FindStringSubmatch(report)
	if found == nil {
		w.t.Fatal(report)
	}
	figure, err := strconv.ParseFloat(found[1], 64)
	if err != nil || figure > highest {
		w.t.Errorf("exposure %s, more than %.1f\n%s", found[1], highest, report)
	}
	w.t.Logf("systemd-analyze security: exposure %s", found[1])
}

// filled is the sample for a node of a cluster of three, as an administrator fills it in.
func (w *world) filled(name, ip, dsn string) string {
	text := w.sample
	for _, r := range [][2]string{
		{"cluster: TODO", "cluster: trial"}, {"node: TODO", "node: " + name},
		{`  peer: "TODO:7400"`, `  peer: "` + ip + `:7400"`}, {`gossip: "TODO:`, `gossip: "` + ip + `:`}, {`admin: "TODO:`, `admin: "` + ip + `:`}, {`http: "TODO:`, `http: "` + ip + `:`},
		{`a: "TODO:`, `a: "` + w.ips[0] + `:`}, {`b: "TODO:`, `b: "` + w.ips[1] + `:`}, {`t: {peer: "TODO:`, `t: {peer: "` + w.ips[2] + `:`},
		{"tls/TODO.pem", "tls/" + name + ".pem"}, {"tls/TODO.key", "tls/" + name + ".key"},
		{"postgres://TODO:TODO@TODO/airflow?target_session_attrs=read-write", dsn},
	} {
		if !strings.Contains(text, r[0]) {
			w.t.Fatalf("the sample has no %q", r[0])
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	for line := range strings.Lines(text) {
		if code, _, _ := strings.Cut(line, "#"); strings.Contains(code, "TODO") {
			w.t.Fatalf("the sample still wants something: %s", line)
		}
	}
	return text
}

// The job says through a pipe what becomes of it. It is no Airflow, but as much a child of the daemon as that would be.
const (
	saidPath = "/var/lib/duoflow/said"
	jobText  = `#!/bin/sh
trap 'echo "term $DUOFLOW_EPOCH" >` + saidPath + `; exit 0' TERM
test -r "$PGSERVICEFILE" || exit 9
echo "begun $DUOFLOW_EPOCH $(id -un) $(sed -n 's/^0:://p' /proc/self/cgroup) ${NOTIFY_SOCKET:-none}" >` + saidPath + `
while :; do sleep 3600 & wait $!; done
`
	hookText = "#!/bin/sh\necho \"hook $DUOFLOW_EPOCH $DUOFLOW_HOOK\" >" + saidPath + "\n"
)

// configure: the sample is sound once its TODOs are filled in.
func (w *world) configure() {
	subnet := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(250), rand.IntN(256))
	for i := range w.ips {
		w.ips[i] = subnet + strconv.Itoa(1+i)
	}
	dsn := w.metastore()
	w.do("duoctl", "tls", "init", "--out", "/etc/duoflow/tls", "--node", "a="+w.ips[0], "--node", "b="+w.ips[1], "--node", "t="+w.ips[2], "--operator", "you")
	w.do("sh", "-c", "chgrp -R duoflow /etc/duoflow/tls && chmod 750 /etc/duoflow/tls && chmod 640 /etc/duoflow/tls/*.key")
	w.put("/etc/duoflow/node.yaml", w.filled("a", w.ips[0], dsn), 0o640)
	said := w.do("setpriv", "--reuid=duoflow", "--regid=duoflow", "--clear-groups", "duoflowd", "--check")
	if said != "configuration of node a of cluster trial is sound" {
		w.t.Error(said)
	}
	w.put("/usr/local/bin/job", jobText, 0o755)
	w.put("/usr/local/bin/hook", hookText, 0o755)
	w.put("/etc/duoflow/node.yaml", commanded(w.filled("a", w.ips[0], dsn)), 0o640)
	witness := strings.Replace(commanded(w.filled("t", w.ips[2], dsn)), "witness: false", "witness: true", 1)
	witness = regexp.MustCompile(`(?m)^    fence: .*$`).ReplaceAllString(witness, "")
	witness = strings.Replace(witness, "data_dir: /var/lib/duoflow", "data_dir: /var/lib/duoflow-t", 1)
	w.put("/etc/duoflow/t.yaml", witness, 0o644)
	unit := strings.NewReplacer("/etc/duoflow/node.yaml", "/etc/duoflow/t.yaml", "StateDirectory=duoflow\n", "StateDirectory=duoflow-t\n")
	w.put("/etc/systemd/system/duoflowd-t.service", unit.Replace(w.get("/lib/systemd/system/duoflowd.service")), 0o644)
	w.put("/etc/systemd/system/duoflowd.service.d/watchdog.conf", "[Service]\nWatchdogSec=20s\n", 0o644)
}

// commanded has the job of the sample be another program than Airflow.
func commanded(text string) string {
	text = strings.Replace(text, "kind: airflow ", "kind: command ", 1)
	text = regexp.MustCompile(`(?m)^    python: .*$`).ReplaceAllString(text, "    command: [/usr/local/bin/job]")
	return regexp.MustCompile(`(?m)^    warm: .*$`).ReplaceAllString(text, "    hooks: {pre_stop: [/usr/local/bin/hook]}")
}

// metastore starts a Postgres outside of the container, and has duoctl in it make what the fence needs there.
func (w *world) metastore() (dsn string) {
	server, err := pg.Start(w.whole.Context(), pg.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.whole.Cleanup(func() { _ = server.Stop(context.WithoutCancel(w.whole.Context())) })
	conn, err := pgx.Connect(w.t.Context(), server.Superuser())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := conn.Exec(w.t.Context(), "CREATE DATABASE airflow"); err != nil {
		w.t.Fatal(err)
	}
	if err := conn.Close(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.put("/root/a.password", "secret\n", 0o600)
	w.do("duoctl", "metastore", "init", "--yes", "--fencer", "fencer_a", "--password-file", "fencer_a=/root/a.password",
		"--admin-dsn", strings.Replace(server.Superuser(), "/postgres?", "/airflow?", 1))
	return server.DSN("fencer_a", "secret", "airflow") + "&target_session_attrs=read-write"
}

// hears waits for the job's next line that begins with this word, and returns the others. On a busy machine a job may have begun once
// more than was meant.
func (w *world) hears(word string) []string {
	w.t.Helper()
	if err := w.fifo.SetReadDeadline(time.Now().Add(stuck)); err != nil {
		w.t.Fatal(err)
	}
	for {
		line, err := w.said.ReadString('\n')
		if err != nil {
			w.t.Fatalf("waiting for %q of the job: %v", word, err)
		}
		if words := strings.Fields(line); words[0] == word {
			return words[1:]
		}
	}
}

// run: systemd starts the daemon as its own user, it gets the job, and the job lives in a cgroup below that of the unit.
func (w *world) run() {
	w.do("mkfifo", "-m", "666", saidPath)
	fifo, err := os.OpenFile(filepath.Join(w.root, saidPath), os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.fifo, w.said = fifo, bufio.NewReader(fifo)
	w.do("systemctl", "daemon-reload")
	w.do("systemctl", "enable", "--now", "duoflowd-t", "duoflowd")
	words := w.hears("begun")
	if words[1] != "duoflow" || !strings.HasPrefix(words[2], "/system.slice/duoflowd.service/duoflow/a-scheduler-") || words[3] != "none" {
		w.t.Errorf("epoch, user, cgroup, NOTIFY_SOCKET of the job: %q", words)
	}
	w.mainPID = w.do("systemctl", "show", "-P", "MainPID", "duoflowd")
	if got := w.do("ps", "-o", "user=", "-p", w.mainPID); got != "duoflow" {
		w.t.Errorf("the daemon runs as %s", got)
	}
	if got := w.status(); got != "a" {
		w.t.Errorf("%s is active", got)
	}
	if said := w.do("duoctl", "config", "check", "/etc/duoflow/node.yaml", "--node", "a"); strings.Contains(said, "problem") {
		w.t.Error(said)
	}
	if said := w.fails(1, "duoctl", "version"); strings.Count(said, w.version()) != 3 {
		w.t.Error(said)
	}
}

var holder = regexp.MustCompile(`"holder": "([^"]*)"`)

// status is who holds the job, as duoctl says.
func (w *world) status() string {
	w.t.Helper()
	text := w.do("duoctl", "status", "-o", "json")
	found := holder.FindStringSubmatch(text)
	if found == nil {
		w.t.Fatalf("no holder in %s", text)
	}
	return found[1]
}

// hang: a daemon that stands still is ended with all it has started, and comes back.
func (w *world) hang() {
	w.do("kill", "-STOP", w.mainPID)
	words := w.hears("begun")
	if words[0] == "1" {
		w.t.Errorf("the job began again in epoch %s", words[0])
	}
	if before := w.mainPID; before == w.do("systemctl", "show", "-P", "MainPID", "duoflowd") {
		w.t.Error("the daemon that stood still is still there")
	}
	if log := w.do("journalctl", "--no-pager", "-u", "duoflowd"); !strings.Contains(log, "Watchdog timeout") {
		w.t.Errorf("systemd does not speak of its watchdog:\n%s", log)
	}
	if left := w.do("sh", "-c", "pgrep -xc job || true"); left != "1" {
		w.t.Errorf("%s processes of the job", left)
	}
}

// stop: the daemon ends its job in order; nobody ends it before the daemon does.
func (w *world) stop() {
	w.do("systemctl", "stop", "duoflowd")
	hook := w.hears("hook")
	if term := w.hears("term"); hook[1] != "pre_stop" || term[0] != hook[0] {
		w.t.Errorf("the hook said %q, the job %q", hook, term)
	}
	if got := w.do("systemctl", "show", "-P", "Result", "duoflowd"); got != "success" {
		w.t.Errorf("the stop ended with %s", got)
	}
	w.do("systemctl", "start", "duoflowd")
	w.hears("begun")
	w.mainPID = w.do("systemctl", "show", "-P", "MainPID", "duoflowd")
}

// upgrade: neither daemon nor job notices, what was configured stays, and the next start is of the new version.
func (w *world) upgrade() {
	configured := w.get("/etc/duoflow/node.yaml")
	said := w.dpkg(append([]string{"-i"}, w.packages(w.dist)...)...)
	if !strings.Contains(said, "duoflowd goes on as it was") {
		w.t.Errorf("dpkg said:\n%s", said)
	}
	if got := w.do("systemctl", "show", "-P", "MainPID", "duoflowd"); got != w.mainPID {
		w.t.Errorf("the daemon was %s and is %s", w.mainPID, got)
	}
	if w.get("/etc/duoflow/node.yaml") != configured {
		w.t.Error("the configuration has changed")
	}
	if !w.exists("/etc/duoflow/node.yaml.dpkg-dist") {
		w.t.Error("the new sample is nowhere")
	}
	if got := w.status(); got != "a" {
		w.t.Errorf("%s is active", got)
	}
	w.do("systemctl", "restart", "duoflowd")
	w.hears("hook")
	w.hears("term")
	w.hears("begun")
}

// remove: the daemon ends in order, and what it knows stays. Who installs it again is told how to start it.
func (w *world) remove() {
	w.dpkg("-r", "duoflowd", "duoctl", "duoflow-etl")
	w.hears("hook")
	w.hears("term")
	if left := w.do("sh", "-c", "pgrep -xa job || true"); left != "" {
		w.t.Errorf("processes are left: %s", left)
	}
	for path, want := range map[string]bool{
		"/usr/sbin/duoflowd": false, "/usr/bin/duoctl": false, "/usr/bin/duoetl": false, "/lib/systemd/system/duoflowd.service": false,
		"/etc/duoflow/node.yaml": true, "/var/lib/duoflow/raft": true,
	} {
		if w.exists(path) != want {
			w.t.Errorf("%s is there: %v", path, !want)
		}
	}
	said := w.dpkg(append([]string{"-i"}, w.packages(w.dist)...)...)
	if !strings.Contains(said, "duoflowd is enabled and does not run: systemctl start duoflowd") {
		w.t.Errorf("installed again, dpkg said:\n%s", said)
	}
	w.fails(3, "systemctl", "is-active", "duoflowd") // inactive
	w.dpkg("-r", "duoflowd", "duoctl", "duoflow-etl")
	w.do("systemctl", "disable", "--now", "duoflowd-t")
}

// purge: nothing is left but what the administrator has made, and the user, as is Debian's custom.
func (w *world) purge() {
	w.dpkg("-P", "duoflowd", "duoctl", "duoflow-etl")
	if !w.exists("/etc/duoflow/tls/a.key") {
		w.t.Error("a key that the package did not bring is gone")
	}
	w.do("sh", "-c", "rm -r /etc/duoflow /var/lib/duoflow-t /etc/systemd/system/duoflowd* /usr/local/bin/job /usr/local/bin/hook /root/*")
	var left []string
	for _, path := range w.paths() {
		if !slices.Contains(w.before, path) {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		w.t.Errorf("left behind: %q", left)
	}
	w.do("getent", "passwd", "duoflow")
}

// passing are what a Debian writes for itself.
var passing = []string{"/dev", "/proc", "/sys", "/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/systemd", "/var/cache/man", "/var/lib/dpkg", "/var/cache/ldconfig"}

// paths are all in the container's root that somebody could have left.
func (w *world) paths() []string {
	var all []string
	err := filepath.WalkDir(w.root, func(path string, _ fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, w.root)
		if slices.Contains(passing, name) {
			return fs.SkipDir
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if strings.HasPrefix(name, "/etc/") && strings.HasSuffix(name, "-") { // passwd- and its like
			return nil
		}
		all = append(all, name)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}
