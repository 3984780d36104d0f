package airflowctl

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

type nobody struct{}

func (nobody) Health(fence.Health)        {}
func (nobody) Exited(uint64, string)      {}
func (nobody) Idle(uint64, time.Duration) {}

// handKeeper is a keeper whose looks are made by the test, and the airflow.cfg that it watches.
func handKeeper(t *testing.T) (k *keeper, config string) {
	t.Helper()
	dir := t.TempDir()
	python := filepath.Join(dir, "python")
	config = filepath.Join(dir, "airflow.cfg")
	write(t, python, "#!/bin/sh\necho \"warm $$ 0.1\" >&4\nread line <&3\n")
	write(t, config, "one")
	j, err := New(Config{
		Name: "scheduler", Node: "a", Kind: Airflow, Warm: true, Python: python, Env: []string{"AIRFLOW_HOME=" + dir},
		Root: filepath.Join(dir, "root"), FenceDSN: "postgres://x@127.0.0.1:1/x", Group: "workers", Observer: nobody{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.trees.Clear(context.Background()); err != nil {
			t.Error(err)
		}
		j.lives.Wait()
		if err := j.output.Close(); err != nil {
			t.Error(err)
		}
	})
	return &keeper{job: j, pace: usualPace()}, config
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func awaitWarm(t *testing.T, l *life) {
	t.Helper()
	if l == nil {
		t.Fatal("there is none")
	}
	if err := l.await(t.Context(), l.warm, 30*time.Second); err != nil {
		t.Fatal(err)
	}
}

// TestALineThatComesTwice: what the shim says may be said again by anything of the job's user that has its pipe.
func TestALineThatComesTwice(t *testing.T) {
	k, _ := handKeeper(t)
	l := &life{job: k.job, warm: make(chan struct{}), running: make(chan struct{}), ended: make(chan struct{})}
	for range 2 {
		for _, line := range []string{"warm 7 0.1", "job 3", "loop", "note slow"} {
			l.heard(line)
		}
	}
	if !l.isWarm() {
		t.Error("not warm")
	}
	if err := l.await(t.Context(), l.running, 30*time.Second); err != nil {
		t.Error(err)
	}
}

// TestAChangeMustBeOver, and a takeover goes before a replacement.
func TestAChangeMustBeOver(t *testing.T) {
	k, config := handKeeper(t)
	now := time.Now()
	look := func() {
		now = now.Add(k.look)
		k.tick(t.Context(), now)
	}
	look()
	first := k.job.waiting()
	awaitWarm(t, first)
	look()
	for _, text := range []string{"half", "of it", "is there"} {
		write(t, config, text)
		look()
		if k.fresh != nil {
			t.Fatalf("made anew while the change goes on (%q)", text)
		}
	}
	look()
	if k.fresh == nil || k.job.waiting() != first {
		t.Fatal("not made anew after the change, or the old one is gone")
	}
	given := k.fresh
	k.job.setBusy(true, 0)
	look()
	if k.fresh != nil || k.job.waiting() != first || !given.retired.Load() {
		t.Fatal("a takeover does not end the replacement, or not only that")
	}
	k.job.setBusy(false, 0)
	look()
	awaitWarm(t, k.fresh)
	next := k.fresh
	look()
	if k.job.waiting() != next || !first.retired.Load() {
		t.Error("the replacement has not taken its place")
	}
	if k.fails != 0 {
		t.Errorf("%d failures counted", k.fails)
	}
	next.from[schemaKey] = "of the time when this host was active"
	look()
	look()
	if k.fresh != nil {
		t.Error("made anew without a change, or because the schema cannot be seen from here any more")
	}
}

// TestPausesDouble up to the longest, whatever the count.
func TestPausesDouble(t *testing.T) {
	k := &keeper{pace: usualPace()}
	now := time.Now()
	for i, want := range []int{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		k.failed(now)
		if got := k.retryAt.Sub(now); got != time.Duration(want)*time.Second {
			t.Errorf("pause %d: %s", i, got)
		}
	}
	k.fails = 1 << 30
	k.failed(now)
	if got := k.retryAt.Sub(now); got != k.retryMax {
		t.Errorf("after very many: %s", got)
	}
}
