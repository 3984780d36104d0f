//go:build airflow

package airflowctl_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/broker"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/scripts/lab"
)

// stopsBeforeSending is a plugin with which a scheduler stops itself once between its commit of `queued` and the message for it:
// a host that freezes at the worst moment.
const stopsBeforeSending = `
import os, signal
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.celery.executors import celery_executor_utils as utils

send = utils.send_workload_to_executor

def stop_and_send(workload):
    flag = os.environ["TEST_STOP_FLAG"]
    if os.path.exists(flag):
        os.unlink(flag)
        os.kill(os.getpid(), signal.SIGSTOP)
    return send(workload)

utils.send_workload_to_executor = stop_and_send

class Stops(AirflowPlugin):
    name = "stops"
`

// brokered is an Airflow whose worker is gone, so that what was sent stays in the queue and can be counted.
type brokered struct {
	t        *testing.T
	stack    *lab.Airflow
	dsn      map[string]string
	plugins  string
	flag     string
	password string // a file
	epoch    uint64
}

// TestBroker does all that needs a real scheduler and a real broker.
func TestBroker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Hosts: []string{"a"}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	stack, err := l.StartAirflow(ctx, lab.AirflowOptions{Chains: 1, Length: 1})
	must(t, err)
	must(t, stack.Process["worker"].Stop(ctx))
	b := &brokered{t: t, stack: stack, dsn: fencers(ctx, t, stack.Store(), "a", "b"), plugins: t.TempDir(), flag: filepath.Join(t.TempDir(), "stop")}
	must(t, os.WriteFile(filepath.Join(b.plugins, "stops.py"), []byte(stopsBeforeSending), 0o644))
	_, password := stack.Broker.Account()
	b.password = filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(b.password, []byte(password), 0o600))
	t.Run("without a user for each epoch, what a frozen scheduler sends arrives", b.withoutUsers)
	t.Run("with one, it does not", b.withUsers)
	t.Run("a broker that is not managed stops nobody", b.unmanaged)
	t.Run("unless it has to be", b.required)
}

// config is how a host has the job; users says whether each epoch gets one.
func (b *brokered) config(node string, users bool) airflowctl.Config {
	c := airflowctl.Config{
		Node: node, Kind: airflowctl.Airflow, Python: b.stack.Python(), FenceDSN: b.dsn[node], Observer: &events{},
		Logger: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
		Env:    append(b.stack.SchedulerEnv(), "AIRFLOW__CORE__PLUGINS_FOLDER="+b.plugins, "TEST_STOP_FLAG="+b.flag),
	}
	if users {
		name, _ := b.stack.Broker.Account()
		where, err := url.Parse(b.stack.Broker.URL())
		must(b.t, err)
		c.Broker = &airflowctl.Broker{Config: broker.Config{
			Management: b.stack.Broker.ManagementURL(), User: name, PasswordFile: b.password, AMQP: where.Host,
		}}
	}
	return c
}

func (b *brokered) next(node string) fence.Claim {
	b.epoch++
	return claim(b.epoch, node)
}

// frozen starts a scheduler on host a, has it send one message, and stops it right before it sends a second one over the same
// connection. It returns its process.
func (b *brokered) frozen(t *testing.T, users bool) (j *airflowctl.Job, pid int) {
	t.Helper()
	j = newJob(t, b.config("a", users))
	before := b.messages(t)
	b.send(t)
	takeOver(t, j, b.next("a"))
	patiently(t, "it has sent a message", func() bool { return b.messages(t) > before })
	must(t, os.WriteFile(b.flag, nil, 0o644))
	b.send(t)
	running := lives(t, j, true)
	if len(running) != 1 {
		t.Fatalf("lives %v", running)
	}
	patiently(t, "it stands still before it sends", func() bool { return state(t, running[0]) == "T" })
	return j, running[0]
}

// send has a task to be queued.
func (b *brokered) send(t *testing.T) {
	t.Helper()
	must(t, b.stack.Trigger(t.Context(), fmt.Sprintf("run-%s-%d", filepath.Base(t.Name())[:8], time.Now().UnixNano())))
}

func (b *brokered) withoutUsers(t *testing.T) {
	_, pid := b.frozen(t, false)
	before := b.messages(t)
	b.take(t, false)
	b.thaw(t, pid)
	if after := b.messages(t); after != before+1 {
		t.Errorf("%d messages, then %d; want the one of the frozen scheduler", before, after)
	}
}

func (b *brokered) withUsers(t *testing.T) {
	j, pid := b.frozen(t, true)
	first := b.connected(t)
	if len(first) != 1 || !strings.HasPrefix(first[0], fmt.Sprintf("df_.2f_scheduler_e%d_", b.epoch)) {
		t.Fatalf("users connected to the broker: %v, want that of epoch %d alone", first, b.epoch)
	}
	b.noPassword(t, j, pid)
	before := b.messages(t)
	there := b.take(t, true)
	patiently(t, "the fenced user is not connected any more", func() bool { return !slices.Contains(b.connected(t), first[0]) })
	b.thaw(t, pid)
	if after := b.messages(t); after != before {
		t.Errorf("%d messages of the fenced scheduler arrived", after-before)
	}
	if line := there.Status().Line.Text; line != "" {
		t.Errorf("it says %q", line)
	}
	b.refused(t, j)
}

// refused wants the scheduler to have tried to send, and logs what it got.
func (b *brokered) refused(t *testing.T, j *airflowctl.Job) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(j.Root(), "output", "*"))
	must(t, err)
	var said []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		said = append(said, strings.Split(string(text), "\n")...)
	}
	said = slices.DeleteFunc(said, func(line string) bool {
		return !strings.Contains(line, "Error sending Celery") && !strings.Contains(line, "amqp.exceptions.") && !strings.Contains(line, "ConnectionResetError")
	})
	if len(said) == 0 {
		t.Error("the thawed scheduler did not complain of the broker: has it tried to send?")
	}
	for _, line := range said {
		t.Logf("it says: %.300s", line)
	}
}

// take fences for the next epoch on host b, and returns when the broker is fenced too, as far as it will be.
func (b *brokered) take(t *testing.T, users bool) *airflowctl.Job {
	t.Helper()
	there := newJob(t, b.config("b", users))
	c := b.next("b")
	must(t, there.Take(t.Context(), c))
	must(t, there.Drain(t.Context(), c))
	if users {
		patiently(t, "the next epoch has its user", func() bool { return b.users(t, fmt.Sprintf("_e%d_", c.Epoch)) == 1 })
	}
	return there
}

// thaw lets a fenced scheduler go on and returns when it has ended, which the fence of the database sees to.
func (b *brokered) thaw(t *testing.T, pid int) {
	t.Helper()
	must(t, syscall.Kill(pid, syscall.SIGCONT))
	patiently(t, "the thawed scheduler ends", func() bool { return !alive(strconv.Itoa(pid)) })
}

// noPassword looks where a life's password must not be, and that it is nobody else's to read where it is.
func (b *brokered) noPassword(t *testing.T, j *airflowctl.Job, pid int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(j.Root(), "lives", "*", "broker"))
	must(t, err)
	if len(files) != 1 {
		t.Fatalf("files %v", files)
	}
	text, err := os.ReadFile(files[0])
	must(t, err)
	info, err := os.Stat(files[0])
	must(t, err)
	where, err := url.Parse(string(text))
	must(t, err)
	password, _ := where.User.Password()
	if info.Mode().Perm() != 0o600 || len(password) < 20 {
		t.Errorf("mode %v, password of %d characters", info.Mode(), len(password))
	}
	for _, name := range []string{"environ", "cmdline"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		must(t, err)
		if strings.Contains(string(text), password) {
			t.Errorf("the password is in the process's %s", name)
		}
	}
}

// unmanaged: RabbitMQ's management API is away. The scheduler starts all the same, sends, and people are told; when the API is
// back, the older users go.
func (b *brokered) unmanaged(t *testing.T) {
	old := b.users(t, "df_")
	if old != 1 {
		t.Fatalf("%d users before, want the last epoch's", old)
	}
	config := b.config("a", true)
	config.Broker.PasswordFile = filepath.Join(t.TempDir(), "later")
	j := newJob(t, config)
	before := b.messages(t)
	b.send(t)
	c := b.next("a")
	takeOver(t, j, c)
	patiently(t, "it sends", func() bool { return b.messages(t) > before })
	if line := j.Status().Line.Text; !strings.HasPrefix(line, "UNSAFE: broker not fenced: ") {
		t.Errorf("people are told %q", line)
	}
	text, err := os.ReadFile(b.password)
	must(t, err)
	must(t, os.WriteFile(config.Broker.PasswordFile, text, 0o600))
	patiently(t, "the older user is gone", func() bool { return b.users(t, "df_") == 1 && b.users(t, fmt.Sprintf("_e%d_", c.Epoch)) == 1 })
	patiently(t, "people are told that", func() bool { return strings.Contains(j.Status().Line.Text, "older epochs are cut off") })
	must(t, j.Stop(t.Context(), c.Epoch, 0))
	must(t, j.Surrender(t.Context(), c))
	if n := b.users(t, "df_"); n != 0 {
		t.Errorf("%d users are left behind", n)
	}
	if line := j.Status().Line.Text; line != "" {
		t.Errorf("nothing runs, and people are told %q", line)
	}
}

func (b *brokered) required(t *testing.T) {
	config := b.config("a", true)
	config.Broker.Required, config.Broker.PasswordFile = true, filepath.Join(t.TempDir(), "never")
	j := newJob(t, config)
	c := b.next("a")
	must(t, j.Take(t.Context(), c))
	must(t, j.Drain(t.Context(), c))
	must(t, j.Adopt(t.Context(), c))
	if err := j.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "broker is not fenced: refused") {
		t.Errorf("Start: %v", err)
	}
	config.Broker.PasswordFile = b.password
	j = newJob(t, config)
	before := b.messages(t)
	takeOver(t, j, b.next("a"))
	b.send(t)
	patiently(t, "it sends", func() bool { return b.messages(t) > before })
	if got := b.connected(t); len(got) != 1 || !strings.HasPrefix(got[0], fmt.Sprintf("df_.2f_scheduler_e%d_", b.epoch)) {
		t.Errorf("users connected to the broker: %v", got)
	}
	b.forgetful(t)
	for _, entry := range environ(t, lives(t, j, true)[0]) {
		if strings.Contains(entry, "amqp://airflow") {
			t.Errorf("another way to the broker is left: %s", entry)
		}
	}
}

// forgetful: a broker that has lost the user gets it again, with the same password.
func (b *brokered) forgetful(t *testing.T) {
	t.Helper()
	lost := b.connected(t)[0]
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, b.stack.Broker.ManagementURL()+"/api/users/"+lost, nil)
	must(t, err)
	request.SetBasicAuth(b.stack.Broker.Account())
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	must(t, err)
	must(t, response.Body.Close())
	patiently(t, "the user is made again", func() bool { return b.users(t, lost) == 1 })
	before := b.messages(t)
	b.send(t)
	patiently(t, "it sends again", func() bool { return b.messages(t) > before })
}

func environ(t *testing.T, pid int) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	must(t, err)
	return strings.Split(string(text), "\x00")
}

// messages counts what is in Celery's queue.
func (b *brokered) messages(t *testing.T) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), b.stack.Python(), "broker/testdata/amqp_client.py", "count", b.stack.Broker.URL(), "default").Output()
	if err != nil {
		t.Fatalf("count messages: %v: %s", err, out)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	must(t, err)
	return n
}

// connected are the users of epochs that have a connection, each once.
func (b *brokered) connected(t *testing.T) (names []string) {
	t.Helper()
	for _, name := range b.named(t) {
		var open []struct{ Name string }
		b.ask(t, "/api/connections/username/"+name, &open)
		if len(open) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// users counts those of epochs whose name has a part.
func (b *brokered) users(t *testing.T, part string) int {
	t.Helper()
	return len(slices.DeleteFunc(b.named(t), func(name string) bool { return !strings.Contains(name, part) }))
}

func (b *brokered) named(t *testing.T) (names []string) {
	t.Helper()
	var users []struct{ Name string }
	b.ask(t, "/api/users", &users)
	for _, u := range users {
		if strings.HasPrefix(u.Name, "df_") {
			names = append(names, u.Name)
		}
	}
	return names
}

func (b *brokered) ask(t *testing.T, path string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.stack.Broker.ManagementURL()+path, nil)
	must(t, err)
	request.SetBasicAuth(b.stack.Broker.Account())
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	must(t, err)
	defer response.Body.Close()
	must(t, json.NewDecoder(response.Body).Decode(into))
}

// patiently is eventually for what a real Airflow does on a busy machine.
func patiently(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(4 * patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// state is the kernel's letter for what a process does.
func state(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[:1]
}
