package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// membership is a wish to change who belongs to the cluster.
type membership struct {
	add    *duoflowv1.NewMember // nil = nobody
	remove string               // "" = nobody
	dryRun bool
	yes    bool
	wait   bool
}

func newMember(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "member",
		Short: "Show and change who belongs to the cluster",
		Long: `Member shows who belongs to the cluster and changes that while it runs; the other nodes are not restarted.

A node joins as a learner: it takes the log and has no vote. The raft leader gives it a vote by itself, when it
has caught up. A change is refused (exit code 3) when a majority of the voters that it leaves cannot be reached,
when another one is under way, and when it removes the last voter, the last node that could run a job, or a node
that holds one. A node that was removed stops, and its name is never taken back.`,
		Example: example("duoctl member list", "duoctl member replace b c --peer 10.0.0.4:7400"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMemberList(a), newMemberAdd(a), newMemberRemove(a), newMemberReplace(a))
	return cmd
}

func newMemberList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Show who belongs to the cluster",
		Long:    `List shows the members as the answering node knows them.`,
		Example: example("duoctl member list", "duoctl member list -o json | jq -r '.members[].name'"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.memberList(cmd.Context()) },
	}
}

func newMemberAdd(a *app) *cobra.Command {
	m := membership{add: &duoflowv1.NewMember{}}
	cmd := &cobra.Command{
		Use:   "add NAME --peer HOST:PORT",
		Short: "Add a node",
		Long: `Add makes a node a member. Its own configuration says "join: true" and names itself and some that are members already; it
may be started before or after. It votes when it has caught up with the log, and then it can be granted jobs.
An even number of voters survives no more losses than one fewer: add a second one, or remove one.`,
		Example: example("duoctl member add c --peer 10.0.0.4:7400", "duoctl member add u --peer 10.0.0.5:7400 --witness --yes -o json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.add.Name = args[0]
			return a.changeMembers(cmd.Context(), m)
		},
	}
	m.addFlags(cmd)
	m.newFlags(cmd)
	return cmd
}

func newMemberRemove(a *app) *cobra.Command {
	m := membership{}
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a node for good",
		Long: `Remove ends a node's membership. A node that holds a job is not removed: move the job first with duoctl switchover. If it
runs it stops, and it is refused when it is started again on its old data. Its name is never taken back.`,
		Example: example("duoctl member remove t", "duoctl member remove t --dry-run"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.remove = args[0]
			return a.changeMembers(cmd.Context(), m)
		},
	}
	m.addFlags(cmd)
	return cmd
}

func newMemberReplace(a *app) *cobra.Command {
	m := membership{add: &duoflowv1.NewMember{}}
	cmd := &cobra.Command{
		Use:   "replace OLD NEW --peer HOST:PORT",
		Short: "Put a new node in the place of another",
		Long: `Replace adds NEW, waits until it has caught up and votes, and removes OLD. In this order the cluster never has fewer voters
than before, and a new node that cannot be reached changes nothing. When it is interrupted it may be repeated: it
goes on from where it was.`,
		Example: example("duoctl member replace t u --peer 10.0.0.5:7400 --witness", "duoctl member replace b c --peer 10.0.0.4:7400 --yes --timeout 5m"),
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.remove, m.add.Name = args[0], args[1]
			return a.changeMembers(cmd.Context(), m)
		},
	}
	m.addFlags(cmd)
	m.newFlags(cmd)
	return cmd
}

func (m *membership) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&m.dryRun, "dry-run", false, "say what would happen, change nothing")
	cmd.Flags().BoolVarP(&m.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&m.wait, "wait", true, "return when the new node votes; replace and remove always wait")
}

func (m *membership) newFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&m.add.Peer, "peer", "", "address that the new node listens on for its peers, host:port")
	cmd.Flags().StringVar(&m.add.Gossip, "gossip", "", "its gossip address (default: the host of --peer with the others' port)")
	cmd.Flags().BoolVar(&m.add.Witness, "witness", false, "it votes and never runs a job")
}

// changeMembers makes one step, or the two of a replacement: the new node first.
func (a *app) changeMembers(ctx context.Context, m membership) error {
	switch {
	case m.add == nil:
	case m.add.GetPeer() == "":
		return usage("--peer is missing", "give the address that the new node listens on for the others, host:port")
	case m.add.GetName() == m.remove: // it is a member already, so it would only be removed
		return usage("a node cannot take its own place", "give the new node another name; one that has lost its disk comes back by itself when it is started")
	}
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	before, _, err := a.lookBefore(ctx, links)
	if err != nil {
		return err
	}
	if !m.dryRun && !m.yes {
		writeMembers(grid.Printable{W: a.err}, before)
		if err := a.confirm(ctx, m.question()); err != nil {
			return err
		}
	}
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	var last *duoflowv1.ChangeMemberResponse
	for _, step := range m.steps() {
		answer, err := a.atLeader(ctx, links, step)
		if err != nil {
			return err
		}
		if !answer.GetAccepted() {
			return &failure{code: exitUnsafe, what: fmt.Sprintf("%s refused: %s", stepText(step), grid.OrDash(answer.GetReason()))}
		}
		if a.tabular() && step.GetDryRun() == m.dryRun {
			fmt.Fprintln(grid.Printable{W: a.out}, stepOutcome(step, answer))
		}
		last = answer
	}
	return a.print(objectOf(last), func(w io.Writer) { writeMemberTable(w, last.GetMembers()) })
}

// steps are the requests that the wish comes to, in order. Of a replacement the new node comes first: a majority of the voters then
// never rests on fewer nodes than before.
func (m membership) steps() []*duoflowv1.ChangeMemberRequest {
	var steps []*duoflowv1.ChangeMemberRequest
	if m.add != nil && m.remove != "" && !m.dryRun { // nobody is to be added when the old one cannot go
		steps = append(steps, &duoflowv1.ChangeMemberRequest{Change: &duoflowv1.ChangeMemberRequest_Remove{Remove: m.remove}, DryRun: true})
	}
	if m.add != nil {
		steps = append(steps, &duoflowv1.ChangeMemberRequest{
			Change: &duoflowv1.ChangeMemberRequest_Add{Add: m.add}, DryRun: m.dryRun, Wait: m.wait || m.remove != "",
		})
	}
	if m.remove != "" {
		steps = append(steps, &duoflowv1.ChangeMemberRequest{
			Change: &duoflowv1.ChangeMemberRequest_Remove{Remove: m.remove}, DryRun: m.dryRun, Wait: true,
		})
	}
	if m.dryRun {
		slices.Reverse(steps) // what would be refused in the end is of more interest
	}
	return steps
}

func (m membership) question() string {
	switch {
	case m.add == nil:
		return fmt.Sprintf("remove node %s from the cluster for good?", m.remove)
	case m.remove == "":
		return fmt.Sprintf("add node %s (%s) to the cluster?", m.add.GetName(), m.add.GetPeer())
	}
	return fmt.Sprintf("put node %s (%s) in the place of %s, and remove %s for good?", m.add.GetName(), m.add.GetPeer(), m.remove, m.remove)
}

func stepText(step *duoflowv1.ChangeMemberRequest) string {
	if add := step.GetAdd(); add != nil {
		return "addition of node " + add.GetName()
	}
	return "removal of node " + step.GetRemove()
}

func stepOutcome(step *duoflowv1.ChangeMemberRequest, answer *duoflowv1.ChangeMemberResponse) string {
	text := stepText(step)
	switch {
	case step.GetDryRun():
		return text + " would be accepted (dry run, nothing was changed)"
	case step.GetAdd() != nil && answer.GetCompleted():
		text += ": it votes"
	case step.GetAdd() != nil:
		text += " accepted: it gets its vote when it has caught up"
	default:
		text += ": done"
	}
	if answer.GetReason() != "" {
		text += " (" + answer.GetReason() + ")"
	}
	return text
}

// atLeader asks the raft leader, whoever that is by then, again and again until it answers: to ask twice does no harm. If time is up in the
// middle of asking, what the try before came to says more.
func (a *app) atLeader(ctx context.Context, links []*link, step *duoflowv1.ChangeMemberRequest) (*duoflowv1.ChangeMemberResponse, error) {
	var before error
	for {
		answer, passes, err := a.tryLeader(ctx, links, step)
		switch {
		case err != nil && ctx.Err() != nil && before != nil:
			return nil, before
		case !passes:
			return answer, err
		}
		before = err
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pollEvery):
		}
	}
}

// tryLeader asks once. passes says whether an error may soon be over: nobody leads just now, somebody else does, or who led is gone.
func (a *app) tryLeader(
	ctx context.Context, links []*link, step *duoflowv1.ChangeMemberRequest,
) (answer *duoflowv1.ChangeMemberResponse, passes bool, err error) {
	now, there, err := best(ctx, links, statusCall)
	if err != nil {
		return nil, false, err
	}
	switch leader := now.GetLeader(); leader {
	case now.GetNode():
	case "":
		return nil, true, &failure{code: exitNoQuorum, what: there.endpoint + ": no raft leader is known", mend: "bring a majority of the nodes back"}
	default:
		address, err := adminAddress(now, leader)
		if err != nil {
			return nil, true, err
		}
		if there, err = a.linkTo(address); err != nil {
			return nil, false, err
		}
		defer closeAll([]*link{there})
	}
	request := proto.Clone(step).(*duoflowv1.ChangeMemberRequest)
	request.TimeoutMs = waitMillis(ctx)
	answer, err = there.admin.ChangeMember(ctx, request)
	if err == nil {
		return answer, false, nil
	}
	gone := isSilent(err) && status.Code(err) == codes.Unavailable
	err = remote(there.endpoint, err)
	return nil, gone || exitCode(err) == exitStale || exitCode(err) == exitNoQuorum, err
}

func (a *app) memberList(ctx context.Context) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	answer, from, err := best(ctx, links, statusCall)
	if err != nil {
		return err
	}
	list := &duoflowv1.ChangeMemberResponse{Members: membersOf(answer)}
	if err := a.print(objectOf(list), func(w io.Writer) { writeMembers(w, answer) }); err != nil {
		return err
	}
	return staleness(answer.GetView(), from)
}

// membersOf reads the members from a status.
func membersOf(s *duoflowv1.StatusResponse) []*duoflowv1.MemberStatus {
	var all []*duoflowv1.MemberStatus
	for _, n := range s.GetNodes() {
		m := &duoflowv1.MemberStatus{Name: n.GetName(), Peer: n.GetAddress(), Witness: n.GetWitness(), Role: "voter", Leaving: n.GetLeaving()}
		if n.GetRaftRole() == "learner" {
			m.Role = "learner"
		}
		all = append(all, m)
	}
	return all
}

func writeMembers(w io.Writer, s *duoflowv1.StatusResponse) { writeMemberTable(w, membersOf(s)) }

func writeMemberTable(w io.Writer, members []*duoflowv1.MemberStatus) {
	g := &grid.Grid{Head: []string{"NODE", "ROLE", "PEER", "REMARK"}}
	for _, m := range members {
		role := m.GetRole()
		if m.GetWitness() {
			role += ", witness"
		}
		remark := ""
		switch {
		case m.GetLeaving():
			remark = "is being removed"
		case m.GetRole() == "learner":
			remark = "votes when it has caught up"
		}
		g.Add(m.GetName(), role, m.GetPeer(), grid.OrDash(remark))
	}
	g.Write(w)
}
