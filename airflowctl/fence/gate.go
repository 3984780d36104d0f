package fence

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
)

// Gate bounds how many sessions are being connected to one server at a time by all the fencers that share it. A connect that takes
// longer than a second is given up, and a hundred jobs that connect at once, at the start of a daemon or when their server is back,
// would slow each other down until all of them are, again and again. The zero value lets nobody in; nil lets in everybody.
type Gate struct {
	wide int

	mu    sync.Mutex
	turns map[string]chan struct{} // by server
}

// NewGate returns a gate through which so many, 1 or more, go at a time. One job alone needs five at most.
func NewGate(wide int) *Gate { return &Gate{wide: wide, turns: map[string]chan struct{}{}} }

// enter waits for a turn to connect to a server, until ctx ends. leave ends the turn, and must be called once.
func (g *Gate) enter(ctx context.Context, server string) (leave func(), err error) {
	if g == nil {
		return func() {}, nil
	}
	turns := g.at(server)
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a turn to connect: %w", ctx.Err())
	}
}

func (g *Gate) at(server string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	turns := g.turns[server]
	if turns == nil {
		turns = make(chan struct{}, g.wide)
		g.turns[server] = turns
	}
	return turns
}

// turn waits for this fencer's turn to connect. Whoever has a time limit for the connect begins to count after it: to wait for others is
// no sign of what the server is like.
func (f *Fencer) turn(ctx context.Context) (leave func(), err error) {
	return f.config.Gate.enter(ctx, net.JoinHostPort(f.connect.Host, strconv.Itoa(int(f.connect.Port))))
}
