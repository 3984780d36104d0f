//go:build airflow

package airflow_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/airflowctl/airflow"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/shim"
	"github.com/duoflow/duoflow/scripts/lab"
)

// stage is a whole Airflow without a scheduler, and the fence of its metastore.
type stage struct {
	all     *testing.T // owns what outlives one story
	t       *testing.T // the story's
	lab     *lab.Lab
	airflow *lab.Airflow
	admin   *pgx.Conn
	fencer  *fence.Fencer
	epoch   uint64
	lives   int
	// afterDrain is how long after the end of its drain the last takeover had queued a task; 0: none was to be queued.
	afterDrain time.Duration
}

const (
	chains, length = 4, 2 // tasks of one run; the first of each chain are queued at once
	bodySeconds    = 1    // a body outlives the start of a scheduler, so that it can be interfered with
	slots          = 8    // of the worker: a stale and a new message of each chain fit beside each other
)

func newStage(t *testing.T) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Hosts: []string{"a"}})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	options := lab.AirflowOptions{Chains: chains, Length: length, Concurrency: slots,
		Extra: map[string]string{"DUOFLOW_DEMO_SECONDS": strconv.Itoa(bodySeconds)}}
	if python := os.Getenv("DUOFLOW_AIRFLOW_PYTHON"); python != "" {
		options.Venv = filepath.Dir(filepath.Dir(python))
	}
	s := &stage{all: t, t: t, lab: l}
	s.airflow, err = l.StartAirflow(ctx, options)
	must(t, err)
	store := s.airflow.Store()
	s.admin = connect(t, store.Admin())
	s.fencer = newFencer(t, store.Admin(), "airflow", func(login, password string) string {
		return store.DSN(login, password, lab.Database)
	})
	return s
}

// life is one process of the scheduler, warm or running.
type life struct {
	stage   *stage
	name    string
	command *exec.Cmd
	control *os.File
	service string
	reports chan shim.Report
	exited  chan struct{}
	job     int64

	mu  sync.Mutex
	log bytes.Buffer
}

func (l *life) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.log.Write(text)
}

func (l *life) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.log.String()
	return text[max(0, len(text)-4000):]
}

// warm starts a standby and waits until it is ready.
func (s *stage) warm(arguments ...string) *life {
	s.t.Helper()
	s.lives++
	dir := filepath.Join(s.lab.Dir, fmt.Sprintf("life%d", s.lives))
	program, err := shim.Write(filepath.Join(dir, "shim"))
	must(s.t, err)
	l := &life{stage: s, name: fmt.Sprintf("life%d", s.lives), service: filepath.Join(dir, "service"),
		reports: make(chan shim.Report, 16), exited: make(chan struct{})}
	env := airflow.Environment(airflow.Process{Node: "a", Label: l.name, ServiceFile: l.service}, s.airflow.SchedulerEnv())
	l.start(env, append([]string{s.airflow.Python(), program}, arguments...))
	s.all.Cleanup(l.kill)
	ready := l.await(shim.Warm)
	s.t.Logf("%s: warm in %s", l.name, ready.Took)
	if n := s.text("SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'duoflow/a/" + l.name + "%'"); n != "0" {
		s.t.Errorf("%s holds %s connections while warm", l.name, n)
	}
	return l
}

func (l *life) start(env, words []string) {
	l.stage.t.Helper()
	controlRead, controlWrite, err := os.Pipe()
	must(l.stage.t, err)
	reportRead, reportWrite, err := os.Pipe()
	must(l.stage.t, err)
	l.control = controlWrite
	l.command = exec.Command(words[0], words[1:]...)
	l.command.Env, l.command.Stdout, l.command.Stderr = env, l, l
	l.command.ExtraFiles = []*os.File{controlRead, reportWrite}
	must(l.stage.t, l.command.Start())
	must(l.stage.t, errors.Join(controlRead.Close(), reportWrite.Close()))
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer reportRead.Close()
		for lines := bufio.NewScanner(reportRead); lines.Scan(); {
			report, err := shim.Parse(lines.Text())
			if err != nil || report.Kind == shim.Note {
				l.stage.all.Errorf("%s reports %q (%v)", l.name, lines.Text(), err)
				continue
			}
			l.reports <- report
		}
	}()
	go func() {
		<-read
		_ = l.command.Wait() // its state says it all
		close(l.exited)
	}()
}

func (l *life) await(kind shim.Kind) shim.Report {
	l.stage.t.Helper()
	select {
	case report := <-l.reports:
		if report.Kind != kind {
			l.stage.t.Fatalf("%s reports %+v, want %s", l.name, report, kind)
		}
		return report
	case <-l.exited:
		l.stage.t.Fatalf("%s ended: %s\n%s", l.name, l.command.ProcessState, l.tail())
	case <-time.After(patience):
		l.stage.t.Fatalf("%s does not report %s\n%s", l.name, kind, l.tail())
	}
	return shim.Report{}
}

func (l *life) signal(number syscall.Signal) {
	l.stage.t.Helper()
	must(l.stage.t, l.command.Process.Signal(number))
}

func (l *life) awaitExit() *os.ProcessState {
	l.stage.t.Helper()
	select {
	case <-l.exited:
	case <-time.After(patience):
		l.stage.t.Fatalf("%s does not end\n%s", l.name, l.tail())
	}
	return l.command.ProcessState
}

func (l *life) kill() {
	_ = l.command.Process.Kill() // it may have ended
	<-l.exited
	_ = l.control.Close()
}

// takeover is what a node does between a grant and go; between is called after the adoption.
func (s *stage) takeover(next *life, between func()) airflow.Adopted {
	s.t.Helper()
	began := time.Now()
	s.epoch++
	claim, credentials := take(s.t, s.fencer, s.epoch)
	fenced := time.Now()
	store := open(s.t, credentials, airflow.Config{})
	_, err := store.Probe(s.t.Context())
	must(s.t, err)
	adopted, err := store.Adopt(s.t.Context(), claim)
	must(s.t, err)
	must(s.t, fence.WriteServiceFile(next.service, credentials.ServiceFile(airflow.Service), -1, -1))
	adoptedAt := time.Now()
	between()
	s.goAndMeasure(next, store, fenced)
	s.t.Logf("%s: epoch %d: fence %s, probe+adopt %s, %+v", next.name, s.epoch, fenced.Sub(began), adoptedAt.Sub(fenced), adopted)
	return adopted
}

func (s *stage) goAndMeasure(next *life, store *airflow.Metastore, fenced time.Time) {
	s.t.Helper()
	s.afterDrain = 0
	went := time.Now()
	_, err := fmt.Fprintln(next.control, shim.Go(s.epoch))
	must(s.t, err)
	next.job = next.await(shim.Job).Job
	row := time.Since(went)
	must(s.t, store.SetJob(s.t.Context(), next.job))
	queued := time.Duration(0)
	for waiting := true; waiting; {
		_, seen, err := store.FirstQueued(s.t.Context(), next.job)
		must(s.t, err)
		switch {
		case seen:
			queued, s.afterDrain, waiting = time.Since(went), time.Since(fenced), false
		case time.Since(went) > 3*time.Second: // nothing is to be done
			waiting = false
		default:
			time.Sleep(time.Millisecond)
		}
	}
	next.await(shim.Loop)
	s.t.Logf("%s: go -> job row %s, first task queued %s, drain -> that %s (0 = none in 3 s)", next.name, row, queued, s.afterDrain)
	beat, id, ok, err := store.Progress(s.t.Context())
	if err != nil || !ok || id != next.job || beat > 10*time.Second {
		s.t.Errorf("progress: %s since the beat of job %d, ok %v, err %v; want job %d", beat, id, ok, err, next.job)
	}
	must(s.t, store.Mirror(s.t.Context(), "a"))
}

func (s *stage) text(sql string, args ...any) string {
	s.t.Helper()
	return text(s.t, s.admin, sql, args...)
}

// trigger starts a run and waits until its first tasks are queued by the scheduler.
func (s *stage) trigger(scheduler *life, run string) {
	s.t.Helper()
	must(s.t, s.airflow.Trigger(s.t.Context(), run))
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		states := s.text("SELECT coalesce(string_agg(state, ' ' ORDER BY state), '') FROM task_instance WHERE run_id = $1 AND state IS NOT NULL", run)
		if states == strings.TrimSuffix(strings.Repeat("queued ", chains), " ") {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("tasks of run %s are %q, want %d queued\n%s\n%s", run, states, chains, s.sessions(), scheduler.tail())
		}
	}
}

// sessions tells what everybody does in the metastore.
func (s *stage) sessions() string {
	return s.text(`SELECT string_agg(concat_ws(' ', pid, usename, application_name, state, wait_event_type, wait_event,
		'blocked by', pg_blocking_pids(pid), now() - state_change, left(query, 150)), E'\n') FROM pg_stat_activity WHERE datname = current_database()`)
}

// awaitSent waits until the scheduler has put the messages of all first tasks into the broker.
func (s *stage) awaitSent(sender *life, run string) {
	s.t.Helper()
	eventually(s.t, "messages of "+run+" are sent", func() bool { return sender.sent(run) >= chains })
}

// sent counts the messages that the scheduler knows to be in the broker.
func (l *life) sent(run string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := 0
	for line := range strings.Lines(l.log.String()) {
		if strings.Contains(line, "Received executor event with state queued") && strings.Contains(line, "run_id='"+run+"'") {
			count++
		}
	}
	return count
}

// refused counts the messages that the execution API has turned away from the worker.
func (s *stage) refused() int {
	s.t.Helper()
	log, err := os.ReadFile(s.airflow.Process["worker"].LogPath())
	must(s.t, err)
	return strings.Count(string(log), "'message': 'Task Instance not found'")
}

// worker signals the Celery worker with all its children. A stopped parent makes no more of them; one
// that goes on may end some at once.
func (s *stage) worker(number syscall.Signal) {
	s.t.Helper()
	for todo := []int{s.airflow.Process["worker"].PID()}; len(todo) > 0; todo = todo[1:] {
		pid := todo[0]
		if err := syscall.Kill(pid, number); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Fatal(err)
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			s.t.Fatal(err)
		}
		for _, child := range strings.Fields(string(children)) {
			number, err := strconv.Atoi(child)
			must(s.t, err)
			todo = append(todo, number)
		}
	}
}

// ranOnce waits for the end of a run and proves that each body ran exactly once, in its first try.
func (s *stage) ranOnce(run string, running *life) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	state, err := s.airflow.AwaitRun(ctx, run)
	if err != nil || state != "success" {
		s.t.Fatalf("run %s is %q: %v\n%s", run, state, err, running.tail())
	}
	s.bodiesOnce(run)
	if tries := s.text("SELECT string_agg(DISTINCT try_number::text, ',') FROM task_instance WHERE run_id = $1", run); tries != "1" {
		s.t.Errorf("run %s needed tries %s: a takeover cost the tasks a retry", run, tries)
	}
}

func (s *stage) bodiesOnce(run string) {
	s.t.Helper()
	beats, err := s.airflow.Beats(s.t.Context(), run)
	must(s.t, err)
	if want := (lab.Beats{Rows: chains * length, Tasks: chains * length}); beats != want {
		s.t.Errorf("run %s: bodies %+v, want %+v", run, beats, want)
	}
}
