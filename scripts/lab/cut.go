package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// cutTable drops what goes to addresses in the set "to" and what comes from those in "from". The hooks
// are at the device, below IP: a program that sends sees no error, as with a pulled cable. A drop in
// the ordinary output hook would make sendto fail with EPERM.
const cutTable = `table netdev lab {
  set to { type ipv4_addr; }
  set from { type ipv4_addr; }
  chain out { type filter hook egress device "eth0" priority 0; ip daddr @to drop; }
  chain in { type filter hook ingress device "eth0" priority 0; ip saddr @from drop; }
}`

// ErrNoCut is returned by Cut and its kin where hosts are not network namespaces.
var ErrNoCut = errors.New("hosts share one network here and cannot be cut off")

// Cut drops all packets between two hosts, either of which may be Hub, in both directions and
// without a reset, those of open connections too. Cutting twice is the same as once.
func (n *Net) Cut(ctx context.Context, a, b string) error {
	return errors.Join(n.CutOneWay(ctx, a, b), n.CutOneWay(ctx, b, a))
}

// CutOneWay drops the packets that from sends to to; the other direction goes on.
func (n *Net) CutOneWay(ctx context.Context, from, to string) error {
	return n.change(ctx, "add", from, to)
}

// Heal undoes Cut and CutOneWay of the two hosts.
func (n *Net) Heal(ctx context.Context, a, b string) error {
	return errors.Join(n.change(ctx, "delete", a, b), n.change(ctx, "delete", b, a))
}

// Isolate cuts a host off from all others and the hub.
func (n *Net) Isolate(ctx context.Context, host string) error {
	var all []string
	for _, other := range append([]string{Hub}, n.hosts...) {
		if other != host {
			all = append(all, n.Addr(other))
		}
	}
	if err := n.known(host); err != nil {
		return err
	}
	elements := strings.Join(all, ", ")
	return n.nft(ctx, host, fmt.Sprintf("add element netdev lab to { %[1]s }\nadd element netdev lab from { %[1]s }", elements))
}

// HealAll undoes every cut.
func (n *Net) HealAll(ctx context.Context) error {
	if !n.real {
		return ErrNoCut
	}
	var errs []error
	for _, host := range n.hosts {
		errs = append(errs, n.nft(ctx, host, "flush set netdev lab to\nflush set netdev lab from"))
	}
	return errors.Join(errs...)
}

// change edits the rules at the sender, or at the receiver when the hub sends: the hub is the machine
// itself, whose rules stay untouched. Deleting looks at both ends, because Isolate filled one's.
func (n *Net) change(ctx context.Context, verb, from, to string) error {
	if err := errors.Join(n.known(from), n.known(to)); err != nil {
		return err
	}
	type edit struct{ host, set, addr string }
	edits := []edit{{from, "to", n.Addr(to)}, {to, "from", n.Addr(from)}}
	if verb == "add" && from != Hub {
		edits = edits[:1]
	}
	var errs []error
	for _, e := range edits {
		if e.host == Hub {
			continue
		}
		text := fmt.Sprintf("%s element netdev lab %s { %s }", verb, e.set, e.addr)
		if verb == "delete" { // deleting what is not there is an error, adding twice is not
			text = fmt.Sprintf("add element netdev lab %s { %s }\n%s", e.set, e.addr, text)
		}
		errs = append(errs, n.nft(ctx, e.host, text))
	}
	return errors.Join(errs...)
}

func (n *Net) known(host string) error {
	if !n.real {
		return ErrNoCut
	}
	if host != Hub && n.dirs[host] == nil {
		return fmt.Errorf("find host %q: not in this lab", host)
	}
	return nil
}

// nft applies rules inside the host, all or none.
func (n *Net) nft(ctx context.Context, host, text string) error {
	return n.Do(host, func() error { return run(ctx, text, "nft", "-f", "-") })
}
