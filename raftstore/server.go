package raftstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/door"
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

// What a connection may have. A peer opens one, with two streams, after another.
const (
	maxStreams     = 2
	maxHeaderBytes = 8 << 10   // of a stream; ours has some hundred
	maxOfPeer      = 4         // connections: old ones may not be noticed to be broken yet
	maxUnproven    = 128       // connections whose first envelope has not come yet
	maxOfSource    = 32        // of these, from one address
	maxHelloBytes  = 128 << 10 // what such a one may send: certificates and an empty envelope
)

// newDoor makes what stands before the peers' port.
func newDoor(log *slog.Logger) (*door.Door, error) {
	return door.New(door.Config{
		Port: "peer", Within: helloTimeout, Bytes: maxHelloBytes, Unproven: maxUnproven, PerSource: maxOfSource,
		PerName: maxOfPeer, Unacked: brokenAfter, Logger: log,
	})
}

// freshHeader is the response header that tells whether the answering node is as good as new, see replica.Fresh.
const freshHeader = "duoflow-fresh"

// termHeader is the one that tells which raft term that node is in; a node of before this does not send it.
const termHeader = "duoflow-term"

// rosterHeader is the one that tells that the node knows members that are changed through the log, and who they are; see hint.
const rosterHeader = "duoflow-roster"

// server takes what the peers send.
type server struct {
	duoflowv1.UnimplementedPeerServer
	store *Store
}

// newServer makes the gRPC server; it is not serving yet.
func newServer(s *Store) *grpc.Server {
	g := grpc.NewServer(
		grpc.Creds(door.Credentials(s.cfg.serverCredentials())),
		grpc.MaxRecvMsgSize(maxEnvelopeBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.UnknownServiceHandler(refuseUnknown),
		grpc.InitialWindowSize(streamBytes),
		grpc.InitialConnWindowSize(connBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: brokenAfter}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingLeast, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(2*helloTimeout), // the door is quicker, and knows why
		grpc.WaitForHandlers(true),
	)
	duoflowv1.RegisterPeerServer(g, &server{store: s})
	return g
}

// Deliver takes one stream of envelopes. The answer to the first one, which is empty, is the
// stream's header.
func (s *server) Deliver(stream grpc.BidiStreamingServer[duoflowv1.PeerEnvelope, duoflowv1.PeerReceipt]) error {
	guest, secured, ok := door.From(stream.Context())
	if !ok {
		return status.Error(codes.Internal, "the connection is unknown")
	}
	hello, err := stream.Recv()
	if err != nil {
		return ended(guest, err)
	}
	if err := s.admit(stream.Context(), secured, hello); err != nil {
		guest.Refuse(door.Message, err)
		return status.Error(codeOf(err, codes.FailedPrecondition), err.Error())
	}
	guest.Admit(s.store.cfg.name(hello.GetFrom()))
	own := s.store.standing()
	if err := stream.SendHeader(metadata.Pairs(freshHeader, strconv.FormatBool(own.fresh), termHeader, strconv.FormatUint(own.term, 10), rosterHeader, hint(own.members))); err != nil {
		return fmt.Errorf("acknowledge stream: %w", err)
	}
	if l := s.store.links()[hello.GetFrom()]; l != nil { // it may just have been removed
		l.nudge()
	}
	for looked := time.Now(); ; {
		if time.Since(looked) > lookAgain {
			if err := s.store.cfg.stillGood(secured); err != nil {
				guest.Shaken(err)
				return status.Error(codes.Unauthenticated, err.Error())
			}
			looked = time.Now()
		}
		envelope, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return ended(guest, err)
		}
		if err := s.take(hello.GetFrom(), envelope); err != nil {
			guest.Refuse(door.Message, err)
			return status.Error(codeOf(err, codes.InvalidArgument), err.Error())
		}
	}
}

// removedCode tells a node that it was removed; a peer gives it for nothing else.
const removedCode = codes.PermissionDenied

func codeOf(err error, usual codes.Code) codes.Code {
	if errors.Is(err, errRemoved) {
		return removedCode
	}
	return usual
}

// ended is what a stream ends with that cannot be read any more. gRPC itself refuses what is too long, compressed or
// no envelope; who sent that is sent away as well. The stream's context says nothing: gRPC has cancelled it by then.
func ended(guest *door.Guest, err error) error {
	switch status.Code(err) {
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable:
	default:
		guest.Refuse(door.Protocol, err)
	}
	return err
}

// refuseUnknown sends away who calls for another service.
func refuseUnknown(_ any, stream grpc.ServerStream) error {
	if guest, _, ok := door.From(stream.Context()); ok {
		guest.Refuse(door.Protocol, errors.New("it called for a service that is not here"))
	}
	return status.Error(codes.Unimplemented, "only peers of duoflow are served here")
}

// admit checks who opened a stream. secured is nil without TLS.
func (s *server) admit(ctx context.Context, secured *tls.ConnectionState, hello *duoflowv1.PeerEnvelope) error {
	err := s.store.cfg.checkEnvelope(hello)
	if errors.Is(err, errUnknown) {
		if why := s.entertain(ctx, secured, hello); why != nil {
			return fmt.Errorf("%w; it is no guest either: %w", err, why)
		}
		err = s.store.cfg.checkEnvelope(hello)
	}
	if err != nil {
		return err
	}
	if hello.GetPayload() != nil {
		return fmt.Errorf("%w: the first one must be empty", errEnvelope)
	}
	if err := s.identify(secured, hello.GetFrom()); err != nil {
		return err
	}
	s.store.cfg.belongs.follow(hello.GetCluster())
	return nil
}

// identify wants a peer's certificate to be of the node that it says it is.
func (s *server) identify(secured *tls.ConnectionState, from uint64) error {
	if s.store.cfg.TLS == nil {
		return nil
	}
	if secured == nil {
		return fmt.Errorf("%w: connection without TLS", errIdentity)
	}
	return verifyName(*secured, s.store.cfg.name(from))
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

// listen opens the peers' port, behind the door.
func (s *Store) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	return s.door.Wrap(l), nil
}
