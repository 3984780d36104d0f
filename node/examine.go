package node

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore"
)

const (
	// slowDisk is from when on the two writes that a takeover waits for cost more than all else in it.
	slowDisk = 200 * time.Millisecond
	// renewWithin is how long before its end a certificate should be replaced.
	renewWithin = 14 * 24 * time.Hour
)

// examine looks at the node itself.
func (n *Node) examine() []*duoflowv1.Finding {
	p, raft := n.snapshot(), n.log.Status()
	findings := []*duoflowv1.Finding{n.quorumFinding(), diskFinding(raft), n.linkFinding(raft), n.versionFinding(p)}
	if n.certificateEnds != nil {
		findings = append(findings, certificateFinding(n.certificateEnds(), n.machine.Wall()))
	}
	return append(findings, clockFinding(unix.Adjtimex))
}

func (n *Node) quorumFinding() *duoflowv1.Finding {
	if n.quorum(n.snapshot()) {
		return &duoflowv1.Finding{Name: "quorum", Ok: true, Detail: "in touch with a majority and a leader"}
	}
	return &duoflowv1.Finding{
		Name: "quorum", Detail: "no majority is heard, or no leader known",
		Mend: "start the other nodes; check listen.peer and nodes, firewalls, and that certificates name the nodes",
	}
}

func diskFinding(raft raftstore.Status) *duoflowv1.Finding {
	f := &duoflowv1.Finding{Name: "log's disk", Ok: true, Detail: fmt.Sprintf("p99 of a durable write: %s", raft.FsyncP99.Round(10*time.Microsecond))}
	switch {
	case raft.Doubt != "":
		f.Ok, f.Detail = false, raft.Doubt
		f.Mend = "the node votes again when it has caught up with the others; replace the disk when this comes back"
	case raft.FsyncP99 > slowDisk:
		f.Ok = false
		f.Detail += fmt.Sprintf(", more than %s", slowDisk)
		f.Mend = "put data_dir on a disk that nothing else keeps busy: every takeover waits for two such writes"
	}
	return f
}

func (n *Node) linkFinding(raft raftstore.Status) *duoflowv1.Finding {
	var up, down []string
	rtts := map[string]time.Duration{}
	for _, m := range n.gossip.Members() {
		rtts[m.Node] = m.RTT
	}
	for _, peer := range raft.PeerStates {
		name := string(n.wire.name(peer.ID))
		switch {
		case name == string(n.self):
		case peer.Connected:
			up = append(up, fmt.Sprintf("%s in %s", name, rtts[name].Round(10*time.Microsecond)))
		default:
			down = append(down, name)
		}
	}
	slices.Sort(up)
	slices.Sort(down)
	f := &duoflowv1.Finding{Name: "links to the other nodes", Ok: len(down) == 0, Detail: "there and back: " + strings.Join(up, ", ")}
	if len(down) > 0 {
		f.Detail = "not connected: " + strings.Join(down, ", ")
		f.Mend = "see whether they run; check listen.peer and nodes, firewalls, and that certificates name the nodes"
	}
	return f
}

// versionFinding is for people who have upgraded one node and forgotten another.
func (n *Node) versionFinding(p picture) *duoflowv1.Finding {
	var heard []string
	same := true
	for _, id := range n.members().ids() {
		if b, ok := p.beats[id]; ok {
			heard = append(heard, fmt.Sprintf("%s %s", id, b.Version))
			same = same && b.Version == n.version
		}
	}
	f := &duoflowv1.Finding{Name: "versions", Ok: same, Detail: strings.Join(heard, ", ")}
	if !same {
		f.Mend = "end the upgrade that was begun: nodes of two versions are meant to work together for its length only"
	}
	return f
}

func certificateFinding(ends, now time.Time) *duoflowv1.Finding {
	left := ends.Sub(now)
	f := &duoflowv1.Finding{
		Name: "certificate", Ok: left > renewWithin,
		Detail: fmt.Sprintf("valid until %s, another %.0f days", ends.UTC().Format(time.RFC3339), left.Hours()/24),
	}
	switch {
	case left <= 0:
		f.Detail = "ended at " + ends.UTC().Format(time.RFC3339) + ": no new connection is accepted"
		fallthrough
	case !f.GetOk():
		f.Mend = "`duoctl tls issue --node` makes another; move it over tls.cert and tls.key, and it is used at once"
	}
	return f
}

// clockFinding is about the wall clock. It is never bad: no decision reads it. But certificates have dates, and logs are read side
// by side.
func clockFinding(adjtimex func(*unix.Timex) (int, error)) *duoflowv1.Finding {
	f := &duoflowv1.Finding{Name: "clock", Ok: true, Detail: "the kernel calls it synchronised"}
	state, err := adjtimex(&unix.Timex{})
	switch {
	case err != nil:
		f.Detail = "the kernel does not say whether it is synchronised"
	case state == unix.TIME_ERROR:
		f.Detail = "the kernel calls it not synchronised; nothing here decides by it, but certificates have dates: run chrony or systemd-timesyncd"
	}
	return f
}
