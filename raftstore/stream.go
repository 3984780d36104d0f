package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// errConnUsed stops gRPC from dialling by itself: the link must see every dial.
var errConnUsed = errors.New("connection is used up")

// maxReceiptBytes bounds what a peer answers on a stream, which is nothing.
const maxReceiptBytes = 4 << 10

// deliver is one stream to a peer.
type deliver = grpc.BidiStreamingClient[duoflowv1.PeerEnvelope, duoflowv1.PeerReceipt]

// serve uses one TCP connection until it breaks: a stream for raft and one for beats.
func (l *link) serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client, err := l.client(conn)
	if err != nil {
		return err
	}
	defer client.Close()
	overdue := time.AfterFunc(helloTimeout, cancel)
	defer overdue.Stop()
	raft, peer, err := l.open(ctx, client)
	if err != nil {
		return err
	}
	beats, _, err := l.open(ctx, client)
	if err != nil {
		return err
	}
	if !overdue.Stop() {
		return fmt.Errorf("peer said nothing for %s", helloTimeout)
	}
	l.opened(peer)
	ends := make(chan error, 5)
	var running sync.WaitGroup
	for _, end := range []func() error{
		func() error { return l.send(ctx, raft, l.raft) },
		func() error { return l.send(ctx, beats, l.beats) },
		func() error { return closing(raft) },
		func() error { return closing(beats) },
		func() error { return l.ask(ctx) },
	} {
		running.Go(func() { ends <- end(); cancel() })
	}
	err = <-ends
	running.Wait()
	return err
}

// client wraps a TCP connection for gRPC.
func (l *link) client(conn net.Conn) (*grpc.ClientConn, error) {
	var used atomic.Bool
	client, err := grpc.NewClient("passthrough:///"+l.peer.Addr,
		grpc.WithTransportCredentials(clientCredentials(l.store.cfg.TLS, l.peer.Name)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errConnUsed
			}
			return conn, nil
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: brokenAfter}),
		grpc.WithInitialWindowSize(streamBytes),
		grpc.WithInitialConnWindowSize(connBytes),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(maxEnvelopeBytes), grpc.MaxCallRecvMsgSize(maxReceiptBytes)),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
	)
	if err != nil {
		return nil, fmt.Errorf("make peer client: %w", err)
	}
	return client, nil
}

// standing is what a node has to know of another one when it connects.
type standing struct {
	fresh bool   // see replica.Fresh
	term  uint64 // that it is in; 0 = it does not say, being of a version before that
	// roster: it knows members that are changed through the log. A version before that does not say so. Then members are who it
	// takes for the members, without their notes.
	roster  bool
	members Roster
	logged  bool // of this node alone: the members are those of the log
}

func standingOf(header metadata.MD) standing {
	said := standing{fresh: slices.Contains(header.Get(freshHeader), "true")}
	if text := header.Get(rosterHeader); len(text) == 1 {
		said.roster = true
		said.members, _ = hinted(text[0]) // nonsense is nothing said
	}
	if text := header.Get(termHeader); len(text) == 1 {
		said.term, _ = strconv.ParseUint(text[0], 10, 64) // nonsense is nothing said
	}
	return said
}

// open starts one stream and waits until the peer has accepted it.
func (l *link) open(ctx context.Context, client *grpc.ClientConn) (stream deliver, peer standing, err error) {
	stream, err = duoflowv1.NewPeerClient(client).Deliver(introduced(ctx, l.store.standing(), l.store.cfg.Self))
	if err != nil {
		return nil, standing{}, fmt.Errorf("open peer stream: %w", err)
	}
	if err := stream.Send(l.envelope()); err != nil {
		return nil, standing{}, closing(stream)
	}
	header, err := stream.Header()
	if err != nil {
		return nil, standing{}, fmt.Errorf("open peer stream: %w", err)
	}
	if header == nil {
		return nil, standing{}, closing(stream)
	}
	return stream, standingOf(header), nil
}

// closing waits for the end of a stream and returns why it ended; never nil.
func closing(stream deliver) error {
	for {
		_, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("peer ended the stream")
		case err != nil:
			return fmt.Errorf("peer stream: %w", err)
		}
	}
}

// send moves what is queued into a stream until that ends.
func (l *link) send(ctx context.Context, stream deliver, q *queue) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.filled:
		}
		items := q.takeAll()
		for i, item := range items {
			if err := stream.Send(l.fill(q, item.payload)); err != nil {
				for _, unsent := range items[i:] {
					l.report(unsent, false)
				}
				return fmt.Errorf("send to peer: %w", err)
			}
			l.report(item, true)
		}
	}
}

// envelope is an empty one to the peer.
func (l *link) envelope() *duoflowv1.PeerEnvelope {
	return &duoflowv1.PeerEnvelope{Cluster: l.store.cfg.belongs.identity(), From: l.store.cfg.Self, To: l.peer.ID}
}

// fill wraps a payload of one of the two queues.
func (l *link) fill(q *queue, payload []byte) *duoflowv1.PeerEnvelope {
	e := l.envelope()
	if q == l.beats {
		e.Payload = &duoflowv1.PeerEnvelope_Beat{Beat: payload}
	} else {
		e.Payload = &duoflowv1.PeerEnvelope_Raft{Raft: payload}
	}
	return e
}
