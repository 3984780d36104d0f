package main

import (
	"strings"
	"testing"
)

func TestBalance(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.spread = []string{"scheduler", "scheduler"} // the fake can move no other; the second is planned for the next epoch
	ctl := operator(dir, serve(t, cluster, dir))
	plan := ctl.run(t, "switchover", "--balance", "--dry-run")
	plan.want(t, exitOK)
	golden(t, "balance-dry-run.table", plan.out)
	if cluster.changes != 0 {
		t.Errorf("a dry run made %d changes", cluster.changes)
	}
	ctl.run(t, "switchover", "--balance").want(t, exitUsage, "there is no terminal")
	got := ctl.run(t, "switchover", "--balance", "--yes")
	got.want(t, exitOK, "scheduler moved from a to b (")
	if cluster.changes != 2 || !strings.Contains(got.out, "2 of 2 moves made") {
		t.Errorf("%d changes:\n%s", cluster.changes, got.out)
	}
}

func TestBalanceAsJSON(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.spread = []string{"scheduler"}
	got := operator(dir, serve(t, cluster, dir)).run(t, "switchover", "--balance", "--yes", "-o", "json")
	got.want(t, exitOK)
	golden(t, "balance.json", got.out)
}

func TestBalanceWithNothingToMove(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	got := operator(dir, serve(t, cluster, dir)).run(t, "switchover", "--balance")
	got.want(t, exitOK)
	if cluster.changes != 0 || !strings.Contains(got.out, "nothing to move") {
		t.Errorf("%d changes:\n%s", cluster.changes, got.out)
	}
}

// TestBalanceEndsAtTheFirstRefusal: a plan whose first move is refused is not the plan for the others.
func TestBalanceEndsAtTheFirstRefusal(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.spread, cluster.moved = []string{"scheduler", "scheduler"}, true
	got := operator(dir, serve(t, cluster, dir)).run(t, "switchover", "--balance", "--yes")
	got.want(t, exitStale, "epoch 13 by now")
	if cluster.changes != 0 || !strings.Contains(got.out, "0 of 2 moves made") {
		t.Errorf("%d changes:\n%s", cluster.changes, got.out)
	}
}

// TestBalanceOfALocalView: what one node knows is shown as that, and nothing is moved by it.
func TestBalanceOfALocalView(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.loseQuorum()
	cluster.spread = []string{"scheduler"}
	ctl := operator(dir, serve(t, cluster, dir))
	for _, how := range []string{"--yes", "--dry-run"} {
		got := ctl.run(t, "switchover", "--balance", how)
		got.want(t, exitStale, "not authoritative")
		if cluster.changes != 0 || !strings.Contains(got.out, "WEIGHT NOW") {
			t.Errorf("%s: %d changes:\n%s", how, cluster.changes, got.out)
		}
	}
}

func TestBalanceIsOfAllJobs(t *testing.T) {
	for _, flags := range []string{"--job scheduler", "--to b", "--in 1h", "--at 2026-12-01T03:00:00Z", "--wait=false"} {
		args := append([]string{"switchover", "--balance"}, strings.Fields(flags)...)
		console{}.run(t, args...).want(t, exitUsage, "--balance and --")
	}
}
