package raftstore

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// fence puts a proxy between every pair: the member of the first index dials the second through it.
func (c *cluster) fence() [][]*proxy {
	var all [][]*proxy
	for _, m := range c.members {
		var row []*proxy
		m.cfg.Peers = slices.Clone(m.cfg.Peers)
		for i := range m.cfg.Peers {
			p := newProxy(c.t, m.cfg.Peers[i].Addr)
			m.cfg.Peers[i].Addr = p.listener.Addr().String()
			row = append(row, p)
		}
		all = append(all, row)
	}
	return all
}

// proxy forwards TCP. While it is cut, bytes stop flowing and nothing is closed, as with a firewall
// that drops packets; healing closes the connections that were cut.
type proxy struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed = bytes flow
	conns []net.Conn
	done  bool
}

// newProxy starts a proxy that ends with the test.
func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, open: make(chan struct{})}
	close(p.open)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.heal()
		p.closeAll()
		p.running.Wait()
	})
	return p
}

// accept serves connections until the listener is closed.
func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		done := p.done
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		if done {
			p.closeAll()
			return
		}
		p.running.Go(func() { p.copy(in, out) })
		p.running.Go(func() { p.copy(out, in) })
	}
}

// copy forwards one direction.
func (p *proxy) copy(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return
		}
		p.mu.Lock()
		open := p.open
		p.mu.Unlock()
		<-open
		if _, werr := to.Write(buffer[:n]); werr != nil || err != nil {
			return
		}
	}
}

// cut stops the bytes.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default:
	}
}

// heal lets them flow on new connections.
func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.conns = nil
		close(p.open)
	}
}

// closeAll ends every connection for good.
func (p *proxy) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}
