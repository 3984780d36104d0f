package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/failpoints"
	"github.com/duoflow/duoflow/scripts/lab"
)

// point is a failpoint of the product and the node that is told of it.
type point struct {
	name string
	at   where
	by   occasion
}

// occasion is when a point is passed.
type occasion int

const (
	byMoving  occasion = iota // with the job's way to another node
	byLeaving                 // when the daemon is told to end
	byLiving                  // all the time, so that it is skipped a number of times that is drawn
)

// pointsOf are the failpoints by the kind of trouble that they make.
var pointsOf = map[string][]point{
	"log": {
		{"raftBeforeSave", onAny, byLiving}, {"raftBetweenFiles", onAny, byLiving}, {"raftAfterSave", onAny, byLiving},
		{"raftBeforeSend", onAny, byLiving}, {"raftAfterSend", onAny, byLiving},
		{"raftBeforeApply", onAny, byLiving}, {"raftAfterApply", onAny, byLiving},
	},
	"fence": {
		{"fenceBeforeTake", onStandby, byMoving}, {"fenceAfterTake", onStandby, byMoving},
		{"fenceBeforeDrain", onStandby, byMoving}, {"fenceAfterLook", onStandby, byMoving}, {"fenceDrained", onStandby, byMoving},
		{"fenceBeforeRelease", onActive, byLeaving}, {"fenceAfterRelease", onActive, byLeaving},
	},
	"job": {
		{"jobBeforeAdopt", onStandby, byMoving}, {"jobBeforeStart", onStandby, byMoving},
		{"jobBeforeProcess", onStandby, byMoving}, {"jobAfterProcess", onStandby, byMoving},
		{"jobBeforeStop", onActive, byMoving}, {"procBeforeKill", onActive, byMoving}, {"jobStopped", onActive, byMoving},
	},
	// Nobody passes these while the job is a command: scripts/robustness/tasks has a real Airflow.
	"airflow": {{"jobBeforeGo", onStandby, byMoving}, {"adoptBeforeCommit", onStandby, byMoving}, {"adoptAfterCommit", onStandby, byMoving}},
}

// failpointTroubles: a node dies, freezes or is late at one of the points of a kind, while the job moves.
var failpointTroubles = []trouble{
	{name: "failpoint-log-kill", where: onActive, moves: may, alone: true, begin: failAt("log", "kill")},
	{name: "failpoint-log-freeze", where: onActive, moves: may, alone: true, begin: failAt("log", "freeze")},
	{name: "failpoint-log-late", where: onActive, moves: may, alone: true, begin: failAt("log", "late")},
	{name: "failpoint-fence-kill", where: onActive, moves: must, alone: true, begin: failAt("fence", "kill")},
	{name: "failpoint-fence-freeze", where: onActive, moves: must, alone: true, begin: failAt("fence", "freeze")},
	{name: "failpoint-fence-late", where: onActive, moves: must, alone: true, begin: failAt("fence", "late")},
	{name: "failpoint-job-kill", where: onActive, moves: must, alone: true, begin: failAt("job", "kill")},
	{name: "failpoint-job-freeze", where: onActive, moves: must, alone: true, begin: failAt("job", "freeze")},
	{name: "failpoint-job-late", where: onActive, moves: must, alone: true, begin: failAt("job", "late")},
}

const (
	// pointsName is the file of a run with a line for each point that a node was told of: name, what to do, node, hit or missed.
	pointsName = "failpoints"
	// hitWithin is how long the point has to be passed; a limit for being stuck.
	hitWithin = 30 * time.Second
	// askEvery is how long a switchover may take before it is asked for again.
	askEvery = 3 * time.Second
	// skipMost bounds how often a point that is passed all the time is skipped.
	skipMost = 20
	// latest bounds how late a node is at a point.
	latest = 3 * time.Second
	// fatedAfter: a point that was tried so often and never hit is a finding.
	fatedAfter = 3
)

// failing is what a stage knows of failpoints.
type failing struct {
	program string                  // duoflowd with failpoints; "" = not built yet
	awake   map[string]*lab.Process // nodes' daemons that were started from it
	hands   map[string][]point      // points not dealt yet, by kind
}

func prepareFailpoints(_ context.Context, s *stage) (stop func() error, err error) {
	s.failing = &failing{awake: map[string]*lab.Process{}, hands: map[string][]point{}}
	return nil, nil
}

// deal gives every point of a kind once before any again.
func (f *failing) deal(kind string, dice *rand.Rand) point {
	if len(f.hands[kind]) == 0 {
		hand := slices.Clone(pointsOf[kind])
		dice.Shuffle(len(hand), func(i, j int) { hand[i], hand[j] = hand[j], hand[i] })
		f.hands[kind] = hand
	}
	next := f.hands[kind][0]
	f.hands[kind] = f.hands[kind][1:]
	return next
}

// build makes the program, once.
func (f *failing) build(ctx context.Context, s *stage) error {
	if f.program != "" {
		return nil
	}
	root, err := lab.Root()
	if err != nil {
		return err
	}
	to := filepath.Join(s.Lab.Dir, "failpoints")
	if err := failpoints.Build(ctx, root, to, "./cmd/duoflowd"); err != nil {
		return err
	}
	f.program = filepath.Join(to, "duoflowd")
	return nil
}

// failAt has a node pass a point of a kind, and do there what it is told.
func failAt(kind, what string) beginning {
	return func(ctx context.Context, s *stage, _ *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
		if err := s.failing.build(ctx, s); err != nil {
			return nil, err
		}
		p := s.failing.deal(kind, dice)
		n, active, err := s.failing.place(ctx, s, p.at, dice)
		if err != nil {
			return nil, err
		}
		shot := &shot{stage: s, point: p, what: what, node: n, active: active, process: n.Process()}
		shot.draw(dice)
		mend, err := shot.fire(ctx)
		if errors.Is(err, errMissed) {
			return nil, errors.Join(mend(ctx), err)
		}
		return mend, err
	}
}

// place makes a node that can be told of points one that will pass this one, and says who is active then.
func (f *failing) place(ctx context.Context, s *stage, at where, dice *rand.Rand) (*lab.Node, *lab.Node, error) {
	active, err := s.await(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	name := standbyOf(active.Node)
	if at == onAny && dice.IntN(2) == 0 {
		name = witness
	}
	if at == onActive && f.isAwake(s.Cluster.Nodes[active.Node]) {
		return s.Cluster.Nodes[active.Node], s.Cluster.Nodes[active.Node], nil
	}
	n := s.Cluster.Nodes[name]
	if err := f.wake(ctx, s, n); err != nil {
		return nil, nil, err
	}
	if active, err = s.await(ctx, true); err == nil && at == onActive && active.Node != name {
		active, err = f.moveTo(ctx, s, active)
	}
	if err == nil && (active.Node == name) != (at == onActive) {
		err = fmt.Errorf("%w: the job is on %s", errMissed, active.Node)
	}
	return n, s.Cluster.Nodes[active.Node], err
}

func (f *failing) isAwake(n *lab.Node) bool { return f.awake[n.Name] == n.Process() }

// wake starts a node's daemon anew, from the build with failpoints.
func (f *failing) wake(ctx context.Context, s *stage, n *lab.Node) error {
	if f.isAwake(n) {
		return nil
	}
	s.excuse(n)
	if err := n.Process().Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if err := awaitEnd(ctx, n); err != nil {
		return err
	}
	n.Program, n.Env = f.program, []string{"GOFAIL_HTTP=" + pointsAddress}
	err := s.keepUp(n)
	n.Program, n.Env = "", nil // the next start is one of the product again
	f.awake[n.Name] = n.Process()
	return err
}

// awaitEnd waits for the end of a daemon that was killed.
func awaitEnd(ctx context.Context, n *lab.Node) error {
	ctx, cancel := context.WithTimeout(ctx, hitWithin)
	defer cancel()
	select {
	case <-n.Process().Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of the daemon on %s: %w", n.Name, ctx.Err())
	}
}

// moveTo has the job go to the standby.
func (f *failing) moveTo(ctx context.Context, s *stage, from lab.Active) (lab.Active, error) {
	for limit := time.Now().Add(hitWithin); ; {
		if err := s.askFor(ctx, standbyOf(from.Node)); err != nil {
			return from, err
		}
		active, err := s.await(ctx, true)
		if err != nil || active.Epoch > from.Epoch || time.Now().After(limit) {
			return active, err
		}
	}
}

// askFor asks for a switchover. A refusal is an answer too.
func (s *stage) askFor(ctx context.Context, to string) error {
	_, _, err := s.moveBy(ctx, "switchover", "--yes", "--to", to, "--timeout", askEvery.String())
	return err
}

// checkFailpoints judges the file that the shots have left.
func checkFailpoints(path string) (wrong []string, err error) {
	tried, hit := map[string]int{}, map[string]int{}
	err = readLines(filepath.Join(path, pointsName), false, func(line string) error {
		fields := strings.Fields(line)
		if len(fields) != 4 {
			return fmt.Errorf("not a point: %q", line)
		}
		tried[fields[0]]++
		if fields[3] == "hit" {
			hit[fields[0]]++
		}
		return nil
	})
	for name, n := range tried {
		if n >= fatedAfter && hit[name] == 0 {
			wrong = append(wrong, fmt.Sprintf("failpoint %s was never hit in %d trials", name, n))
		}
	}
	slices.Sort(wrong)
	return wrong, err
}
