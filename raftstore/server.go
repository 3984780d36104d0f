package raftstore

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// Times of the peers' connections. gRPC's own pings are for a peer that is frozen; a lost host is
// noticed by TCP, because beats flow all the time and unacknowledged ones end the connection after
// brokenAfter (TCP_USER_TIMEOUT, which gRPC sets to the ping's timeout).
const (
	pingEvery   = 10 * time.Second // gRPC's least
	brokenAfter = 2 * time.Second
	pingLeast   = 5 * time.Second // a peer that pings more often is sent away
	streamBytes = 1 << 20         // flow control window: what a stream may have under way
	connBytes   = 4 << 20
)

// freshHeader is the response header that tells whether the answering node's log is empty.
const freshHeader = "duoflow-fresh"

// server takes what the peers send.
type server struct {
	duoflowv1.UnimplementedPeerServer
	store *Store
}

// newServer makes the gRPC server; it is not serving yet.
func newServer(s *Store) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(serverCredentials(s.cfg.TLS)),
		grpc.MaxRecvMsgSize(maxEnvelopeBytes),
		grpc.InitialWindowSize(streamBytes),
		grpc.InitialConnWindowSize(connBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: brokenAfter}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingLeast, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(helloTimeout),
		grpc.WaitForHandlers(true),
	)
	duoflowv1.RegisterPeerServer(g, &server{store: s})
	return g
}

// Deliver takes one stream of envelopes. The answer to the first one, which is empty, is the
// stream's header.
func (s *server) Deliver(stream grpc.BidiStreamingServer[duoflowv1.PeerEnvelope, duoflowv1.PeerReceipt]) error {
	hello, err := stream.Recv()
	if err != nil {
		return status.FromContextError(stream.Context().Err()).Err()
	}
	if err := s.admit(stream, hello); err != nil {
		s.store.log.Warn("refused a peer's stream", "peer", s.store.cfg.name(hello.GetFrom()), "err", err)
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	if err := stream.SendHeader(metadata.Pairs(freshHeader, strconv.FormatBool(s.store.isFresh()))); err != nil {
		return fmt.Errorf("acknowledge stream: %w", err)
	}
	s.store.links[hello.GetFrom()].nudge()
	for {
		envelope, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return status.FromContextError(stream.Context().Err()).Err()
		}
		if err := s.take(hello.GetFrom(), envelope); err != nil {
			s.store.log.Warn("ended a peer's stream", "peer", s.store.cfg.name(hello.GetFrom()), "err", err)
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}

// admit checks who opened a stream.
func (s *server) admit(stream grpc.ServerStream, hello *duoflowv1.PeerEnvelope) error {
	if err := s.store.cfg.checkEnvelope(hello); err != nil {
		return err
	}
	if s.store.cfg.TLS == nil {
		return nil
	}
	return verifySender(stream.Context(), s.store.cfg.name(hello.GetFrom()))
}

// take handles one envelope of an admitted sender.
func (s *server) take(from uint64, e *duoflowv1.PeerEnvelope) error {
	if err := s.store.cfg.checkEnvelope(e); err != nil {
		return err
	}
	if e.GetFrom() != from {
		return fmt.Errorf("%w: from %x on the stream of %x", errEnvelope, e.GetFrom(), from)
	}
	switch e.GetPayload().(type) {
	case *duoflowv1.PeerEnvelope_Beat:
		s.store.cfg.Observer.Beat(from, e.GetBeat())
	case *duoflowv1.PeerEnvelope_Raft:
		m, err := decodeRaft(e)
		if err != nil {
			return err
		}
		s.store.receive(m)
	}
	return nil
}

// listen opens the peers' port.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	return l, nil
}
