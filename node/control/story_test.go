package control_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// TestStories plays the protocol of whole situations, one file each. Read them first: every line is a decision, with
// the sentence of the table that took it. Rewrite with `go test ./node/control -rewrite`, and read the difference.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			w := newWorld()
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
				t.Helper()
				w.out.Reset()
				w.command(t, d)
				w.check(t, d)
				return w.out.String()
			})
		})
	}
}

func (w *world) command(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	switch d.Cmd {
	case "pass":
		w.pass(duration(t, d.CmdArgs[0].Key))
	case "kill":
		w.kill(name(d))
	case "restart":
		w.restart(name(d))
	case "freeze":
		w.host(name(d)).frozen = true
	case "thaw":
		w.thaw(w.host(name(d)))
	case "cut":
		w.host(name(d)).cut = true
	case "heal":
		w.host(name(d)).cut = false
		w.lost(w.host(name(d)))
	case "metastore-down":
		w.blind(d, true)
	case "metastore-up":
		w.blind(d, false)
	case "exit":
		h := w.host(name(d))
		w.send(h, control.Exited{Epoch: h.running, Detail: "exit code 1"})
	case "hang":
		h := w.host(name(d))
		w.send(h, control.Progress{Epoch: h.running, Idle: 16 * time.Second})
	case "ask":
		w.ask(t, d)
	case "cancel":
		job, _ := w.log.Job(jobName)
		w.propose("operator", lease.Command{Ask: &lease.Ask{Job: jobName, Epoch: job.Epoch, Cancel: true}})
	case "pause", "resume":
		w.pauseOrResume(t, d)
	case "force":
		h := w.host(name(d))
		w.send(h, control.Force{Epoch: w.row.Epoch + 1})
	case "quit":
		w.send(w.host(name(d)), control.Quit{})
	case "beat-every":
		w.host(name(d)).every = duration(t, d.CmdArgs[1].Key)
	case "stall":
		w.now = w.now.Add(duration(t, d.CmdArgs[0].Key))
	case "status":
		w.status()
	case "detection":
		w.detection()
	default:
		d.Fatalf(t, "unknown command %q", d.Cmd)
	}
}

func name(d *datadriven.TestData) lease.NodeID { return lease.NodeID(d.CmdArgs[0].Key) }

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	v, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *world) blind(d *datadriven.TestData, down bool) {
	for _, arg := range d.CmdArgs {
		w.host(lease.NodeID(arg.Key)).blind = down
	}
}

func (w *world) ask(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	job, _ := w.log.Job(jobName)
	ask := &lease.Ask{Job: jobName, Epoch: job.Epoch, Move: lease.Move{Now: d.HasArg("now"), Here: d.HasArg("here")}}
	for _, arg := range d.CmdArgs {
		switch arg.Key {
		case "to":
			ask.Move.To = lease.NodeID(arg.Vals[0])
		case "in":
			ask.In = duration(t, arg.Vals[0])
		}
	}
	w.propose("operator", lease.Command{Ask: ask})
}

// pauseOrResume does what the operator wants of the pause there is now.
func (w *world) pauseOrResume(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	job, _ := w.log.Job(jobName)
	hold := &lease.Hold{Job: jobName, Order: job.Order, Cause: lease.CauseOperator}
	if d.Cmd == "pause" {
		hold.Pause = &lease.Pause{Level: lease.Level(name(d))}
		for _, arg := range d.CmdArgs[1:] {
			hold.Pause.For = duration(t, arg.Vals[0])
		}
	}
	w.propose("operator", lease.Command{Hold: hold})
}

// check is the oracle of every story: in no state of the metastore may two processes be able to write.
func (w *world) check(t *testing.T, d *datadriven.TestData) {
	t.Helper()
	var effective []lease.NodeID
	for _, h := range w.hosts {
		if h.running != 0 && h.running == w.row.Epoch {
			effective = append(effective, h.id)
		}
	}
	if len(effective) > 1 {
		d.Fatalf(t, "two effective instances: %v", effective)
	}
}

func (w *world) status() {
	job, _ := w.log.Job(jobName)
	w.printf("log: epoch %d %s %s; fence row: epoch %d %s; leader %s",
		job.Epoch, job.Phase, job.Holder, w.row.Epoch, w.row.Node, w.leader)
	for _, h := range w.hosts {
		line := fmt.Sprintf("  %s: %s", h.id, h.machine.State())
		switch {
		case h.dead:
			line = fmt.Sprintf("  %s: dead", h.id)
		case h.running != 0 && h.running == w.row.Epoch:
			line += fmt.Sprintf(", its process of epoch %d can write", h.running)
		case h.running != 0:
			line += fmt.Sprintf(", its process of epoch %d can write nothing", h.running)
		}
		if why := h.granter.Waits(); why != "" {
			line += "; " + why
		}
		if s := h.granter.Suspicion(); s.Cause != "" {
			line += "; suspects the holder: " + s.Detail
		}
		w.printf("%s", line)
	}
}

// lost tells the others of a host that was cut off that its connection did not survive.
func (w *world) lost(h *host) {
	for _, other := range w.hosts {
		if other != h && !other.dead {
			w.send(other, control.Lost{Node: h.id})
		}
	}
	w.drain()
}

// detection is how long the leader would wait for each node, and why.
func (w *world) detection() {
	for _, h := range w.hosts {
		d := w.host(w.leader).granter.Detection(h.id)
		w.printf("  %s: %s", h.id, strings.TrimSuffix(d.After.String()+", "+d.Reason(), ", "))
		w.printf("     longest gap %s", d.Gaps.Longest)
	}
}

func (w *world) printf(format string, args ...any) {
	fmt.Fprintf(&w.out, format+"\n", args...)
}

// say prints one line of the protocol with its time.
func (w *world) say(format string, args ...any) {
	w.printf("%6dms  %s", time.Duration(w.now).Milliseconds(), strings.TrimSpace(fmt.Sprintf(format, args...)))
}
