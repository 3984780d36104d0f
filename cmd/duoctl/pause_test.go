package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestPauseAndResume(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"resume", "--yes"}, exitUnsafe, "it is not paused"},
		{[]string{"resume", "--dry-run"}, exitUnsafe, "resume of job scheduler refused: it is not paused"},
		{[]string{"pause", "--for", "2h", "--reason", "upgrade", "--dry-run"}, exitOK,
			"pause of job scheduler would be accepted (dry run, nothing was changed): it was not paused, " +
				"and would be paused (moves) for another 2h0m0s, by alice: upgrade\n"},
		{[]string{"pause", "--for", "2h", "--reason", "upgrade", "--yes"}, exitOK,
			"pause of job scheduler accepted: it was not paused, and is paused (moves) for another 2h0m0s, by alice: upgrade\n"},
		{[]string{"status"}, exitOK, "PAUSED: (moves) for another 2h0m0s, by alice: upgrade\n"},
		{[]string{"pause", "--level", "stopped", "--yes"}, exitOK, "and is paused (stopped) until it is resumed, by alice; nobody runs it\n"},
		{[]string{"resume", "--yes"}, exitOK, "it was paused (stopped) until it is resumed, by alice, and is not paused\n"},
		{[]string{"pause", "--level", "a-bit", "--yes"}, exitUsage, `level "a-bit" is none of moves, grants, stopped`},
		{[]string{"pause", "--for", "-1s", "--yes"}, exitUsage, "write it like 90m"},
		{[]string{"pause", "--job", "other", "--yes"}, exitUsage, "use --job with one of"},
	} {
		got := ctl.run(t, step.args...)
		if got.code != step.code || !strings.Contains(got.out+got.err, step.want) {
			t.Errorf("%s: exit code %d, want %d\n%s%s\nwant %s", strings.Join(step.args, " "), got.code, step.code, got.out, got.err, step.want)
		}
	}
	if cluster.changes != 3 {
		t.Errorf("%d changes, want 3", cluster.changes)
	}
}

// TestResumeOfAnotherPause: what the operator was shown is what is ended.
func TestResumeOfAnotherPause(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	ctl.run(t, "pause", "--yes").want(t, exitOK)
	cluster.moved = true
	ctl.run(t, "resume", "--yes").want(t, exitStale, "another order was given since")
}

func TestPauseAsksFirst(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	ctl.run(t, "pause").want(t, exitUsage, "--yes")
	ctl.terminal, ctl.input = true, "n\n"
	ctl.run(t, "pause", "--level", "grants").want(t, exitFailed,
		"have job scheduler paused (grants) until it is resumed? It is not paused now. [y/N]")
	if cluster.changes != 0 {
		t.Errorf("%d changes", cluster.changes)
	}
}

func TestPauseAsJSON(t *testing.T) {
	dir := makeCertificates(t)
	got := operator(dir, serve(t, newFakeCluster(), dir)).run(t, "pause", "--yes", "-o", "json")
	got.want(t, exitOK)
	var answer struct {
		Accepted bool `json:"accepted"`
		After    struct {
			Level string `json:"level"`
			By    string `json:"by"`
		} `json:"after"`
	}
	if err := json.Unmarshal([]byte(got.out), &answer); err != nil || !answer.Accepted || answer.After.Level != "moves" || answer.After.By != "alice" {
		t.Errorf("%v, %s", err, got.out)
	}
}

func TestPlanAndCancel(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	ctl.run(t, "cancel", "--yes").want(t, exitUnsafe, "no move is asked for or planned")
	got := ctl.run(t, "switchover", "--to", "b", "--in", "90m", "--yes")
	got.want(t, exitOK)
	if want := "switchover of job scheduler planned, in 1h30m0s: a (epoch 12) -> b"; !strings.Contains(got.out, want) {
		t.Errorf("%s\nwant %s", got.out, want)
	}
	if got := ctl.run(t, "status"); !strings.Contains(got.out, "planned: switchover to b in 1h30m0s, by alice\n") {
		t.Errorf("%s", got.out)
	}
	if got := ctl.run(t, "cancel", "--yes"); got.code != exitOK ||
		!strings.Contains(got.out, "cancel of job scheduler accepted: switchover to b in 1h30m0s, by alice\n") {
		t.Errorf("%d %s%s", got.code, got.out, got.err)
	}
	if cluster.status.GetJobs()[1].GetPlanned() != nil {
		t.Error("the plan is still there")
	}
}

func TestWhenAMoveIsDue(t *testing.T) {
	now := time.Date(2026, 12, 1, 2, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		given transfer
		in    time.Duration
		err   string
	}{
		{given: transfer{}},
		{given: transfer{in: time.Minute}, in: time.Minute},
		{given: transfer{at: "2026-12-01T03:00:00Z"}, in: time.Hour},
		{given: transfer{at: "2026-12-01T03:00:00+01:00"}, err: "is over"},
		{given: transfer{at: "tomorrow"}, err: "is no time"},
		{given: transfer{at: "2026-12-01T03:00:00Z", in: 1}, err: "both given"},
		{given: transfer{in: -1}, err: "is negative"},
	} {
		got := test.given
		got.wait = true
		err := got.settle(now)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%+v: %v", test.given, err)
			}
			continue
		}
		if err != nil || got.in != test.in || got.wait != (test.in == 0) {
			t.Errorf("%+v: in %v, wait %v, %v", test.given, got.in, got.wait, err)
		}
	}
}

func TestRestart(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	ctl.terminal, ctl.input = true, "y\n"
	got := ctl.run(t, "restart")
	got.want(t, exitOK, "restart of job scheduler on a (epoch 12)? [y/N]")
	if !strings.Contains(got.out, "restart of job scheduler completed: a (epoch 12) -> a (epoch 13)") {
		t.Errorf("%s", got.out)
	}
}
