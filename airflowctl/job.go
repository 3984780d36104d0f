package airflowctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/duoflow/duoflow/airflowctl/airflow"
	"github.com/duoflow/duoflow/airflowctl/broker"
	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/airflowctl/hook"
	"github.com/duoflow/duoflow/airflowctl/proc"
)

// Job is one job on this host. Use New, Run, and the verbs in the order package control decides on.
type Job struct {
	cfg    Config
	logger *slog.Logger
	fencer *fence.Fencer
	trees  *proc.Forest
	output *proc.JobLog
	hooks  *hook.Runner
	ledger *ledger
	// cleared is closed once nothing of an earlier daemon is left; the first spare waits for it.
	cleared chan struct{}
	// broker is nil when none is configured; turns hands the newest turn to the one who takes it.
	broker *broker.Fence
	turns  chan *brokerTurn
	once   sync.Once
	// lives joins the goroutines that watch a process each.
	lives sync.WaitGroup
	pace  pace

	mu sync.Mutex
	// current is the life that was given an epoch; nil while there is none.
	current *life
	// spare is the life that waits for one.
	spare *life
	// taking: a takeover is under way here, and no process is given to it yet. Until calmAt nothing that costs time
	// is done beside a new life.
	taking bool
	calmAt time.Time
	// credentials are those of the epoch being taken over or run.
	credentials fence.Credentials
	// turn is that epoch's at the broker; nil: there is none, or it is over here.
	turn *brokerTurn
	// metastore is open, with the epoch's own role, from adoption until the life has ended.
	metastore  *airflow.Metastore
	mirroredAt time.Time
	lastLines  map[uint64][]string
	// lineAsked is when the current life's line was last to be read; lines hands lives to the one who reads.
	lineAsked time.Time
	lines     chan *life
}

// The output of a job takes at most about outputBytes times outputFiles on disk.
const (
	outputBytes = 16 << 20
	outputFiles = 5
)

// keptLines is how many lines of a finished life's output are shown, enough for a Python stack of the scheduler;
// keptLives for how many lives.
const (
	keptLines = 40
	keptLives = 10
)

// New checks the configuration, makes the job's directories and starts nothing.
func New(cfg Config) (*Job, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	uid, gid, err := cfg.owner()
	if err != nil {
		return nil, fmt.Errorf("job %s: user: %w", cfg.Name, err)
	}
	if err := cfg.checkSchedule(); err != nil {
		return nil, fmt.Errorf("job %s: schedule: %w", cfg.Name, err)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Root, "lives"), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of job %s: %w", cfg.Name, err)
	}
	logger := cfg.Logger.With("job", cfg.Name)
	fencer, err := fence.New(fence.Config{
		Job: cfg.Name, DSN: cfg.FenceDSN, Group: cfg.Group, Runs: cfg.Schedule != "",
		Life: cfg.Life, Gate: cfg.Gate, Observe: cfg.Observer.Health, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	trees, err := proc.New(proc.Config{Name: cfg.treeName(), Started: cfg.Started, Logger: logger})
	if err != nil {
		return nil, err
	}
	output, err := proc.OpenJobLog(proc.JobLogConfig{
		Dir: filepath.Join(cfg.Root, "output"), Base: cfg.Name, MaxBytes: outputBytes, Keep: outputFiles,
	})
	if err != nil {
		return nil, err
	}
	brokers, err := cfg.newBroker()
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", cfg.Name, err)
	}
	hooks, err := hook.New(hook.Config{
		Job: cfg.Name, Node: cfg.Node, Commands: cfg.Hooks, Timeout: cfg.HookTimeout, Dir: filepath.Join(cfg.Root, "hooks"),
		Env: cfg.Env, UID: uid, GID: gid, Started: cfg.Started, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", cfg.Name, err)
	}
	j := &Job{
		hooks: hooks, broker: brokers, turns: make(chan *brokerTurn, 1),
		cfg: cfg, logger: logger, fencer: fencer, trees: trees, output: output,
		cleared: make(chan struct{}), pace: usualPace(), lastLines: map[uint64][]string{},
		lines: make(chan *life, 1),
	}
	j.ledger = newLedger(fencer.Note, func() bool { taking, _ := j.busy(time.Now()); return taking }, logger)
	return j, nil
}

// Run keeps the fencer connected, a standby process warm and an eye on the job's progress until ctx ends. It leaves
// no process behind.
func (j *Job) Run(ctx context.Context) error {
	var joined sync.WaitGroup
	joined.Go(func() { _ = j.fencer.Run(ctx) }) // returns nil when ctx ends, and only then
	joined.Go(func() { j.keepSpare(ctx) })
	joined.Go(func() { j.watchProgress(ctx) })
	joined.Go(func() { j.collectRoles(ctx) })
	joined.Go(func() { j.keepBroker(ctx) })
	joined.Go(func() { _ = j.hooks.Run(ctx) }) // as the fencer's
	joined.Go(func() { _ = j.ledger.Run(ctx) })
	var reader sync.WaitGroup // waited for last: a disk that hangs must not keep processes alive
	reader.Go(func() { j.readLines(ctx) })
	joined.Wait()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastKill)
	defer cancel()
	err := j.trees.Clear(end)
	if err == nil {
		j.lives.Wait()
	}
	reader.Wait()
	return errors.Join(err, j.output.Close())
}

// lastKill bounds how long a stopping daemon waits for the kernel to reap killed processes.
const lastKill = 10 * time.Second

// Clear kills what earlier daemons have left of this job on this host, and removes their service files.
func (j *Job) Clear(ctx context.Context) error {
	if err := j.trees.Clear(ctx); err != nil {
		return fmt.Errorf("clear job %s: %w", j.cfg.Name, err)
	}
	lives := filepath.Join(j.cfg.Root, "lives")
	old, err := os.ReadDir(lives)
	if err != nil {
		return fmt.Errorf("clear job %s: %w", j.cfg.Name, err)
	}
	for _, entry := range old {
		if err := os.RemoveAll(filepath.Join(lives, entry.Name())); err != nil {
			return fmt.Errorf("clear job %s: %w", j.cfg.Name, err)
		}
	}
	j.once.Do(func() { close(j.cleared) })
	return nil
}

// Mode is how its process trees are held.
func (j *Job) Mode() proc.Mode { return j.trees.Mode() }

// Doctor performs a fence on a scratch role and reports what it found, there and of the job itself.
func (j *Job) Doctor(ctx context.Context) (fence.Report, error) {
	report, err := j.fencer.Doctor(ctx)
	if err != nil {
		return report, err
	}
	mode := j.trees.Mode()
	finding := fence.Finding{Name: "process trees", OK: mode != proc.ModeGroup, Detail: string(mode)}
	if !finding.OK {
		finding.Mend = "give duoflowd a delegated cgroup v2 (systemd: Delegate=yes), or the right to make PID namespaces"
	}
	report.Findings = append(append(report.Findings, finding), j.checkBroker(ctx, true)...)
	report.Findings = append(report.Findings, j.cfg.checkSettings()...)
	if j.cfg.Kind == Airflow && airflow.KeepsResults(findInstall(j.cfg).executor, j.cfg.Env) {
		results, err := airflow.CheckResults(ctx, j.cfg.FenceDSN, j.cfg.Group)
		if err != nil {
			return report, err
		}
		report.Findings = append(report.Findings, results)
	}
	return report, nil
}

// Check reports whether the fencer has every right a takeover needs, and whether the job's own settings are safe.
func (j *Job) Check(ctx context.Context) (fence.Report, error) {
	report, err := j.fencer.Check(ctx)
	report.Findings = append(append(report.Findings, j.cfg.checkSettings()...), j.checkBroker(ctx, false)...)
	return report, err
}

// Root is the directory of this job's own.
func (j *Job) Root() string { return j.cfg.Root }

// Status returns what people may want to know. To be asked for it is also what has a job's line read, for the next time.
func (j *Job) Status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wantLine(time.Now())
	var line, slots Line
	var numbers []Number
	if j.current != nil {
		line, slots, numbers = j.current.line.Line, j.current.slots.Line, j.current.line.numbers
	}
	if text := j.brokerLine(); text != "" {
		line = Line{Text: text, At: j.turn.since}
	}
	return Status{
		Line: line, Slots: slots.Text, Numbers: numbers,
		Warm:       j.spare != nil && j.spare.isWarm(),
		MirroredAt: j.mirroredAt, LastLines: maps.Clone(j.lastLines), LostLines: j.output.Lost(), HooksWaiting: j.hooks.Waiting(),
	}
}
