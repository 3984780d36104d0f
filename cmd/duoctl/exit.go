package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// The exit codes; scripts depend on them, so they never change.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitUnsafe   = 3
	exitNoQuorum = 4
	exitTimeout  = 5
	exitStale    = 6
)

// exitHelp is the last part of the root's help.
const exitHelp = `Exit codes:
  0  ok
  1  failed
  2  usage: the command line or a configuration file is wrong
  3  refused as unsafe
  4  no quorum
  5  timeout; the outcome may be unknown
  6  stale or not authoritative: what was shown is one node's local view`

// failure is an error that knows its exit code, and what to do about it.
type failure struct {
	code int
	what string // what is wrong, and where
	mend string // what to do; "" when there is nothing to say
}

func (f *failure) Error() string { return f.what }

func failed(what, mend string) error { return &failure{code: exitFailed, what: what, mend: mend} }

func usage(what, mend string) error { return &failure{code: exitUsage, what: what, mend: mend} }

// asUsage is for errors of the command line itself.
func asUsage(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	return usage(err.Error(), "see duoctl --help")
}

func exitCode(err error) int {
	var f *failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return f.code
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitFailed
}

// complain tells the operator what is wrong and what to do.
func complain(w io.Writer, err error) {
	w = grid.Printable{W: w}
	fmt.Fprintf(w, "duoctl: %v\n", err)
	var f *failure
	if errors.As(err, &f) && f.mend != "" {
		fmt.Fprintf(w, "  to mend: %s\n", f.mend)
	}
}

// exitOf is the exit code of each kind of problem, as admin.proto documents it.
var exitOf = map[duoflowv1.Problem_Kind]int{
	duoflowv1.Problem_KIND_USAGE:     exitUsage,
	duoflowv1.Problem_KIND_UNSAFE:    exitUnsafe,
	duoflowv1.Problem_KIND_NO_QUORUM: exitNoQuorum,
	duoflowv1.Problem_KIND_TIMEOUT:   exitTimeout,
	duoflowv1.Problem_KIND_MOVED:     exitStale,
}

// problemOf is the refusal in a gRPC error; nil when it is not the node that refused.
func problemOf(err error) *duoflowv1.Problem {
	for _, detail := range status.Convert(err).Details() {
		if problem, ok := detail.(*duoflowv1.Problem); ok {
			return problem
		}
	}
	return nil
}

// remote makes a gRPC error one of ours.
func remote(endpoint string, err error) error {
	if problem := problemOf(err); problem != nil {
		code, ok := exitOf[problem.GetKind()]
		if !ok {
			code = exitFailed
		}
		return &failure{code: code, what: endpoint + ": " + problem.GetWhat(), mend: problem.GetMend()}
	}
	s := status.Convert(err)
	f := &failure{code: exitFailed, what: fmt.Sprintf("%s: %s", endpoint, s.Message())}
	switch s.Code() {
	case codes.DeadlineExceeded:
		f.code = exitTimeout
		f.what = endpoint + ": no answer in time"
		f.mend = "check that duoflowd runs there and that the address is right, or raise --timeout"
	case codes.Canceled:
		f.what = endpoint + ": interrupted"
	case codes.Unavailable:
		f.mend = mendHandshake(s.Message())
	case codes.Unauthenticated:
		f.mend = "give --ca, --cert and --key, or the name of a context that has them"
	case codes.Unimplemented:
		f.mend = "that node's version is older than this duoctl; upgrade it"
	}
	return f
}

// alerts are what a node's TLS says to somebody whom it does not let in. That a certificate was revoked is "bad certificate":
// crypto/tls has no other word for it.
var alerts = []struct{ words, mend string }{
	{"tls: expired certificate", "your certificate has ended, or a clock is wrong: have another made with duoctl tls issue, and compare the clocks"},
	{"tls: bad certificate", "the node does not take your certificate, most likely because it was revoked: its log says why; have another made with duoctl tls issue"},
	{"tls: unknown certificate authority", "your certificate is of another cluster's authority: check --cert, and whether --endpoint is the cluster you mean"},
	{"tls: certificate required", "give --ca, --cert and --key, or the name of a context that has them"},
}

// mendHandshake is what to do about a node that cannot be spoken to.
func mendHandshake(message string) string {
	for _, alert := range alerts {
		if strings.Contains(message, alert.words) {
			return alert.mend
		}
	}
	return "check that duoflowd runs there, and the address, --ca, --cert and --key"
}
