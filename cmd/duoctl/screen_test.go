package main

import (
	"encoding/json"
	"strings"
	"testing"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// movesOnce has the job of the fake move when it has been looked at.
func movesOnce(c *fakeCluster) {
	<-c.looked
	<-c.looked
	c.mu.Lock()
	defer c.mu.Unlock()
	job := c.status.GetJobs()[1]
	job.Epoch, job.Holder = job.GetEpoch()+1, "b"
}

func TestWatchTellsChanges(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	go movesOnce(cluster)
	got := operator(dir, serve(t, cluster, dir)).run(t, "watch", "--interval", "10ms", "--timeout", "1s")
	got.want(t, exitOK)
	if lines := strings.Split(strings.TrimSpace(got.out), "\n"); len(lines) != 4 || // all jobs, then the one that moves
		!strings.Contains(got.out, "scheduler epoch 12 granted") || !strings.Contains(lines[3], "scheduler epoch 13 granted") {
		t.Errorf("it tells\n%s", got.out)
	}
}

func TestADeadHolderIsNotShownAsTheActiveOne(t *testing.T) {
	status := &duoflowv1.StatusResponse{Jobs: []*duoflowv1.JobStatus{{Name: "scheduler", Epoch: 5, Phase: "granted", Nodes: []*duoflowv1.JobOnNode{
		{Node: "a", State: "active", Epoch: 4}, {Node: "b", State: "active", Epoch: 5}, {Node: "c", State: "standby", Epoch: 3}, {Node: "d", State: "active", Epoch: 6}, {Node: "t", State: "witness"},
	}}}}
	if got, want := stateLine(status, "scheduler"), "epoch 5 granted: a active in epoch 4, which is over, b active, c standby, d active in epoch 6, t witness"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWatchAsJSON(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	go movesOnce(cluster)
	got := operator(dir, serve(t, cluster, dir)).run(t, "watch", "--interval", "10ms", "--timeout", "1s", "-o", "json")
	got.want(t, exitOK)
	var epochs []int
	for line := range strings.Lines(got.out) {
		var status struct{ Jobs []struct{ Epoch int } }
		if err := json.Unmarshal([]byte(line), &status); err != nil {
			t.Fatal(err)
		}
		epochs = append(epochs, status.Jobs[1].Epoch)
	}
	if len(epochs) != 2 || epochs[1] != epochs[0]+1 {
		t.Errorf("epochs %v", epochs)
	}
}

func TestWatchFillsTheScreen(t *testing.T) {
	dir := makeCertificates(t)
	ctl := operator(dir, serve(t, newFakeCluster(), dir))
	ctl.screen = func() (int, int) { return 40, 9 }
	got := ctl.run(t, "watch", "--interval", "1h", "--timeout", "300ms")
	got.want(t, exitOK)
	if !strings.HasPrefix(got.out, enterScreen+toTheTop) || !strings.HasSuffix(got.out, clearBelow+leaveScreen) {
		t.Errorf("the terminal is not left as it was: %q", got.out)
	}
	page := strings.TrimSuffix(strings.TrimPrefix(got.out, enterScreen+toTheTop), clearBelow+leaveScreen)
	lines := strings.Split(page, endOfLine)
	if len(lines) != 9 { // the last is empty
		t.Errorf("%d lines on a screen of 9: %q", len(lines), lines)
	}
	for _, line := range lines {
		if len([]rune(line)) > 40 {
			t.Errorf("%d characters on a line of 40: %q", len([]rune(line)), line)
		}
	}
	if !strings.Contains(page, "cluster ") {
		t.Errorf("no status: %q", page)
	}
}

func TestWatchGoesOnWithoutAnAnswer(t *testing.T) {
	dir := makeCertificates(t)
	got := operator(dir, closedPort(t)).run(t, "watch", "--interval", "10ms", "--timeout", "500ms")
	got.want(t, exitOK)
	if n := strings.Count(got.out, "connection refused"); n != 1 {
		t.Errorf("it tells %d times that nobody answers:\n%s", n, got.out)
	}
	for _, wrong := range [][]string{{"--interval", "0s"}, {"-o", "yaml"}} {
		operator(dir, closedPort(t)).run(t, append([]string{"watch"}, wrong...)...).want(t, exitUsage)
	}
}
