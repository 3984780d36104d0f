package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/node/admin"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// ChangeMember behaves like a leader that has nothing against it, unless broken says what it has.
func (c *fakeCluster) ChangeMember(_ context.Context, r *duoflowv1.ChangeMemberRequest) (*duoflowv1.ChangeMemberResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil && r.GetRemove() != "" {
		if r.GetDryRun() {
			return &duoflowv1.ChangeMemberResponse{Reason: c.broken.Error()}, nil
		}
		return nil, c.broken
	}
	if r.GetDryRun() {
		return &duoflowv1.ChangeMemberResponse{Accepted: true, Members: membersOf(c.status)}, nil
	}
	c.changes++
	if add := r.GetAdd(); add != nil {
		c.asked = append(c.asked, fmt.Sprintf("add %s %s witness %v wait %v", add.GetName(), add.GetPeer(), add.GetWitness(), r.GetWait()))
		role := "learner"
		if r.GetWait() {
			role = "follower"
		}
		c.status.Nodes = append(c.status.GetNodes(), &duoflowv1.NodeStatus{
			Name: add.GetName(), Address: add.GetPeer(), Witness: add.GetWitness(), RaftRole: role,
		})
		return &duoflowv1.ChangeMemberResponse{Accepted: true, Completed: r.GetWait(), Members: membersOf(c.status)}, nil
	}
	c.asked = append(c.asked, "remove "+r.GetRemove())
	c.status.Nodes = slices.DeleteFunc(c.status.GetNodes(), func(n *duoflowv1.NodeStatus) bool { return n.GetName() == r.GetRemove() })
	return &duoflowv1.ChangeMemberResponse{Accepted: true, Completed: true, Members: membersOf(c.status)}, nil
}

// leading is a fake cluster whose raft leader is the node that answers.
func leading() *fakeCluster {
	c := newFakeCluster()
	c.status.Leader = c.status.GetNode()
	return c
}

func TestMemberList(t *testing.T) {
	dir := makeCertificates(t)
	cluster := leading()
	cluster.status.Nodes[1].Leaving = true
	cluster.status.Nodes = append(cluster.status.GetNodes(), &duoflowv1.NodeStatus{Name: "u", Address: "10.0.0.5:7400", RaftRole: "learner"})
	got := operator(dir, serve(t, cluster, dir)).run(t, "member", "list")
	got.want(t, exitOK)
	for _, part := range []string{"t    | voter, witness", "is being removed", "u    | learner", "votes when it has caught up"} {
		if !strings.Contains(got.out, part) {
			t.Errorf("output lacks %q:\n%s", part, got.out)
		}
	}
	got = operator(dir, serve(t, cluster, dir)).run(t, "member", "list", "-o", "json")
	got.want(t, exitOK)
	if !strings.Contains(got.out, `"role": "learner"`) {
		t.Errorf("output:\n%s", got.out)
	}
}

// TestMemberReplace adds before it removes.
func TestMemberReplace(t *testing.T) {
	dir := makeCertificates(t)
	cluster := leading()
	got := operator(dir, serve(t, cluster, dir)).run(t, "member", "replace", "t", "u", "--peer", "10.0.0.5:7400", "--witness", "--yes")
	got.want(t, exitOK)
	want := []string{"add u 10.0.0.5:7400 witness true wait true", "remove t"}
	if !slices.Equal(cluster.asked, want) {
		t.Errorf("it asked %q, want %q", cluster.asked, want)
	}
	if !strings.Contains(got.out, "addition of node u: it votes\nremoval of node t: done\n") {
		t.Errorf("output:\n%s", got.out)
	}
}

func TestMemberChangesAreAsked(t *testing.T) {
	dir := makeCertificates(t)
	cluster := leading()
	endpoint := serve(t, cluster, dir)
	operator(dir, endpoint).run(t, "member", "remove", "t").want(t, exitUsage, "add --yes")
	operator(dir, endpoint).run(t, "member", "add", "u").want(t, exitUsage, "peer")
	operator(dir, endpoint).run(t, "member", "replace", "t", "t", "--peer", "10.0.0.3:7400", "--yes").want(t, exitUsage, "its own place")
	operator(dir, endpoint).run(t, "member", "add", "U", "--peer", "h:1", "--yes").want(t, exitUsage, "does not match")
	operator(dir, endpoint).run(t, "member", "add", "u", "--peer", "h", "--yes").want(t, exitUsage, "is not host:port")
	operator(dir, endpoint).run(t, "member", "replace", "t", "u", "--peer", "h:1", "--dry-run").want(t, exitOK)
	if cluster.changes != 0 {
		t.Errorf("%d changes", cluster.changes)
	}
	got := operator(dir, endpoint).run(t, "member", "add", "u", "--peer", "h:1", "--yes", "--wait=false", "-o", "json")
	got.want(t, exitOK)
	if !strings.Contains(got.out, `"role": "learner"`) || got.err != "" {
		t.Errorf("output:\n%s%s", got.out, got.err)
	}
}

func TestMemberIsRefused(t *testing.T) {
	dir := makeCertificates(t)
	cluster := leading()
	cluster.broken = &admin.Problem{Kind: duoflowv1.Problem_KIND_UNSAFE, What: "job scheduler: a holds epoch 12 of it", Mend: "switchover first"}
	endpoint := serve(t, cluster, dir)
	operator(dir, endpoint).run(t, "member", "remove", "a", "--yes").want(t, exitUnsafe, "holds epoch 12", "switchover first")
	operator(dir, endpoint).run(t, "member", "remove", "a", "--dry-run").want(t, exitUnsafe, "holds epoch 12")
	cluster.broken = &admin.Problem{Kind: duoflowv1.Problem_KIND_MOVED, What: "node a cannot change members, it is not the raft leader"}
	operator(dir, endpoint).run(t, "member", "remove", "a", "--yes", "--timeout", "3s").want(t, exitStale, "not the raft leader")
	cluster.loseQuorum()
	operator(dir, endpoint).run(t, "member", "remove", "t", "--yes", "--timeout", "3s").want(t, exitNoQuorum, "no raft leader")
}

// TestMemberNeedsAnAdmin has an operator, who may move jobs and not this.
func TestMemberNeedsAnAdmin(t *testing.T) {
	dir := makeCertificates(t)
	console{}.run(t, "tls", "issue", "--authority", dir, "--out", dir, "--operator", "bob", "--role", "operator").want(t, exitOK)
	who := operator(dir, serve(t, leading(), dir))
	who.env["DUOCTL_CERT"], who.env["DUOCTL_KEY"] = dir+"/bob.pem", dir+"/bob.key"
	who.run(t, "member", "remove", "t", "--yes").want(t, exitFailed, "admin")
}
