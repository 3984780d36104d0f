package airflowctl

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/duoflow/duoflow/airflowctl/airflow"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/proc"
	"github.com/duoflow/duoflow/airflowctl/shim"
)

// life is one process tree and the one service file it may ever read (invariant I9): the path is fixed before the
// process starts, is never used by another, and gets credentials once.
type life struct {
	*proc.Life
	job   *Job
	dir   string
	said  *proc.LifeLog
	epoch atomic.Uint64 // 0 while it is a spare
	began time.Time
	// from is what a spare was made from; only the keeper has to do with it.
	from fingerprint
	// retired: a spare that was ended on purpose.
	retired atomic.Bool
	// line is what it says of itself, slots what its runner says of its schedule.
	line, slots told

	// warm is closed when the shim waits for go, running when the scheduler's job row exists.
	warm, running chan struct{}
	// ended is closed when the main process has ended and everything it said has been read.
	ended chan struct{}
	// told is closed when the observer has heard of it.
	told chan struct{}
}

// newLife starts a process tree whose label is the name of its directory. A command is started with its epoch; the
// shim, which is given a control pipe, is told later.
func (j *Job) newLife(dir string, args, env []string) (*life, error) {
	label := filepath.Base(dir)
	l := &life{
		job: j, dir: dir, said: j.output.Life(label), began: time.Now(),
		warm: make(chan struct{}), running: make(chan struct{}), ended: make(chan struct{}), told: make(chan struct{}),
	}
	process, err := j.trees.Start(proc.Spec{
		Label: label, Args: args, Env: env, Dir: cmp.Or(j.cfg.Dir, j.cfg.Root), User: j.cfg.User,
		Control: j.cfg.Kind == Airflow, Output: l.said,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// gofail: var jobAfterProcess struct{}
	l.Life = process
	return l, nil
}

// lifeDir makes the directory of one life, which nobody but the job's user may look into.
func (j *Job) lifeDir() (string, error) {
	dir := filepath.Join(j.cfg.Root, "lives", strings.ToLower(rand.Text()[:10]))
	uid, gid, err := j.cfg.owner()
	if err != nil {
		return "", fmt.Errorf("look up user %s: %w", j.cfg.User, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory of a life: %w", err)
	}
	if uid >= 0 {
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", fmt.Errorf("make directory of a life: %w", err)
		}
	}
	return dir, nil
}

// newCommand starts a command under its epoch; its service file is there before it is.
func (j *Job) newCommand(claim fence.Claim, credentials fence.Credentials) (*life, error) {
	dir, err := j.lifeDir()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "service")
	if err := j.writeService(file, credentials); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	// gofail: var jobBeforeProcess struct{}
	env := append(cleanEnv(j.cfg.Env),
		"PGSERVICEFILE="+file, "PGSERVICE="+j.cfg.Kind.service(),
		"PGAPPNAME="+fmt.Sprintf("duoflow/%s/%d", claim.Node, claim.Epoch),
		"DUOFLOW_JOB="+j.cfg.Name, "DUOFLOW_NODE="+claim.Node, fmt.Sprintf("DUOFLOW_EPOCH=%d", claim.Epoch),
		LineVariable+"="+filepath.Join(dir, lineFile),
	)
	if j.cfg.Schedule != "" {
		env = append(env, ScheduleVariable+"="+filepath.Join(dir, slotsFile))
	}
	l, err := j.newLife(dir, j.cfg.commandLine(), env)
	if err != nil {
		return nil, err
	}
	close(l.warm)
	close(l.running)
	j.lives.Go(l.watch)
	return l, nil
}

// newScheduler starts a shim that imports Airflow and waits; nothing is at its service file's path yet.
func (j *Job) newScheduler() (*life, error) {
	program, err := shim.Write(filepath.Join(j.cfg.Root, "shim"))
	if err != nil {
		return nil, err
	}
	dir, err := j.lifeDir()
	if err != nil {
		return nil, err
	}
	process := airflow.Process{Node: j.cfg.Node, Label: filepath.Base(dir), ServiceFile: filepath.Join(dir, "service")}
	if j.cfg.Broker != nil {
		process.BrokerFile, process.BrokerOnly = filepath.Join(dir, brokerFile), j.cfg.Broker.Required
	}
	env := airflow.Environment(process, j.cfg.Env)
	l, err := j.newLife(dir, []string{j.cfg.Python, program}, env)
	if err != nil {
		return nil, err
	}
	j.lives.Go(l.watch)
	return l, nil
}

func (j *Job) writeService(path string, credentials fence.Credentials) error {
	uid, gid, err := j.cfg.owner()
	if err != nil {
		return fmt.Errorf("look up user %s: %w", j.cfg.User, err)
	}
	return fence.WriteServiceFile(path, credentials.ServiceFile(j.cfg.Kind.service()), uid, gid)
}

// cleanEnv drops what would lead libpq around the service file, and what is said of the life itself: of two values of one name
// most programs take the first.
func cleanEnv(env []string) []string {
	ours := []string{"DUOFLOW_JOB", "DUOFLOW_NODE", "DUOFLOW_EPOCH", LineVariable, ScheduleVariable}
	var kept []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "PG") && !slices.Contains(ours, name) {
			kept = append(kept, entry)
		}
	}
	return kept
}

// lastWords bounds how much later the end of a life is told so that its tree is empty and its last line can be told too.
const lastWords = 100 * time.Millisecond

// watch hears what the shim says until the life has ended, and then tells whom it concerns.
func (l *life) watch() {
	swept := make(chan struct{})
	l.job.lives.Go(func() {
		defer close(swept)
		l.sweep()
	})
	l.listen(swept)
	<-swept
	close(l.ended)
	l.job.lifeEnded(l)
	close(l.told)
}

// sweep kills what the main process leaves behind, as soon as that has ended: children would go on working, and hold the
// pipes whose ends are waited for. One in a call of the kernel that cannot be interrupted does not hold this up; whoever
// needs an empty tree (Stop, Clear) waits for it.
func (l *life) sweep() {
	<-l.Done()
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	if err := l.Kill(ctx); err != nil {
		l.job.logger.Warn("a life leaves processes behind", "err", err)
	}
}

// listen hears the shim until nobody can say anything any more; once enough is closed, only what it has said before.
func (l *life) listen(enough <-chan struct{}) {
	for {
		select {
		case line, more := <-l.Lines():
			if !more {
				return
			}
			l.heard(line)
		case <-enough:
			if len(l.Lines()) == 0 {
				return
			}
		}
	}
}

func (l *life) heard(line string) {
	report, err := shim.Parse(line)
	if err != nil {
		l.job.logger.Warn("shim said something unknown", "err", err)
		return
	}
	switch report.Kind {
	case shim.Warm:
		if closeOnce(l.warm) {
			l.job.logger.Info("standby is warm", "took", report.Took)
		}
	case shim.Job:
		l.job.noteJobRow(l, report.Job)
		closeOnce(l.running)
	case shim.Loop:
		l.job.logger.Info("scheduler loops", "epoch", l.epoch.Load())
	case shim.Note:
		l.job.logger.Warn("shim", "reason", report.Text)
	}
}

// closeOnce closes a channel that only the listener of a life closes, and tells whether it was open. The job's user may write to the shim's pipe too, so
// a line may come twice.
func closeOnce(c chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		close(c)
		return true
	}
}

func (l *life) isWarm() bool {
	select {
	case <-l.ended:
		return false
	default:
	}
	select {
	case <-l.warm:
		return true
	default:
		return false
	}
}

// last says how the life ended, with the last line it wrote.
func (l *life) last() string {
	how := l.Exit().String()
	if lines := l.said.Tail(1); len(lines) > 0 {
		how += ": " + lines[0]
	}
	return how
}

// await returns nil when c is closed, and an error when the process ends first or the time is up.
func (l *life) await(ctx context.Context, c <-chan struct{}, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	select {
	case <-c:
		return nil
	case <-l.ended:
		return fmt.Errorf("ended too early: %s", l.last())
	case <-ctx.Done():
		return fmt.Errorf("wait %s: %w", within, ctx.Err())
	}
}
