package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/duoflow/duoflow/scripts/relay"
)

// ErrNoRelay is returned by Disturb in a lab without Options.Relay.
var ErrNoRelay = errors.New("the lab was made without a relay")

// badNetwork is a relay that runs until stop.
type badNetwork struct {
	relay  *relay.Relay
	cancel context.CancelFunc
	joined sync.WaitGroup
	err    error // of the relay's end; read it after joined
}

// startRelay puts a relay between the hosts, the hub too. As long as nobody is disturbed no packet passes through it.
func (n *Net) startRelay(ctx context.Context) (*badNetwork, error) {
	hosts := []relay.Host{n.relayed(Hub, n.claim.bridge(), n.claim.bridge()+"-r")}
	for _, host := range n.hosts {
		hosts = append(hosts, n.relayed(host, "eth0", "relay"))
	}
	made, err := relay.New(relay.Config{Hosts: hosts, In: n.Do})
	if err != nil {
		return nil, err
	}
	b := &badNetwork{relay: made}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	ended := make(chan struct{})
	b.joined.Go(func() {
		defer close(ended)
		b.err = made.Run(running)
	})
	select {
	case <-made.Ready():
		return b, nil
	case <-ended:
		return nil, fmt.Errorf("start relay: %w", b.stop())
	}
}

func (n *Net) relayed(host, device, tap string) relay.Host {
	return relay.Host{
		Name: host, Addr: netip.MustParseAddr(n.address(10, lastByte[host])), Device: device, Tap: tap,
	}
}

// stop ends the relay and says why it had ended before, if it had.
func (b *badNetwork) stop() error {
	if b == nil {
		return nil
	}
	b.cancel()
	b.joined.Wait()
	return b.err
}

// Disturb has the packets that from sends to to, either of which may be Hub, delayed, lost, doubled or reordered, those of
// open connections too. The zero rule ends that; HealAll does not. A cut of the same hosts goes before it.
func (n *Net) Disturb(ctx context.Context, from, to string, rule relay.Rule) error {
	if err := errors.Join(n.known(from), n.known(to)); err != nil {
		return err
	}
	if n.bad == nil {
		return ErrNoRelay
	}
	return n.bad.relay.Set(ctx, from, to, rule)
}

// Disturbed tells what has become of the packets that a host sent under a rule so far.
func (n *Net) Disturbed(host string) relay.Count {
	if n.bad == nil {
		return relay.Count{}
	}
	return n.bad.relay.Count(host)
}

// Calm ends all that Disturb did.
func (n *Net) Calm(ctx context.Context) error {
	if n.bad == nil {
		return nil
	}
	return n.bad.relay.Clear(ctx)
}
