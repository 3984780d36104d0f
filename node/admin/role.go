package admin

import (
	"context"
	"crypto/x509"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
	"github.com/duoflow/duoflow/raftstore/door"
)

// role orders what callers may do; a larger one may do all that a smaller one may.
type role int

const (
	viewer role = iota + 1
	operator
	admin
)

// roleNames are the words of a certificate's OU.
var roleNames = map[string]role{"viewer": viewer, "operator": operator, "admin": admin}

func (r role) String() string {
	switch r {
	case viewer:
		return "viewer"
	case operator:
		return "operator"
	case admin:
		return "admin"
	}
	return fmt.Sprintf("role(%d)", int(r))
}

// needed is the smallest role per verb. A verb that is missing here needs an admin.
var needed = map[string]role{
	duoflowv1.Admin_Status_FullMethodName:     viewer,
	duoflowv1.Admin_History_FullMethodName:    viewer,
	duoflowv1.Admin_Explain_FullMethodName:    viewer,
	duoflowv1.Admin_Version_FullMethodName:    viewer,
	duoflowv1.Admin_Progress_FullMethodName:   viewer,
	duoflowv1.Admin_Spread_FullMethodName:     viewer,
	duoflowv1.Admin_Doctor_FullMethodName:     operator,
	duoflowv1.Admin_Logs_FullMethodName:       operator, // a job may write anything
	duoflowv1.Admin_Backup_FullMethodName:     operator, // it holds no secret, but all that operators ever wrote
	duoflowv1.Admin_Switchover_FullMethodName: operator,
	duoflowv1.Admin_Failover_FullMethodName:   operator,
	duoflowv1.Admin_Restart_FullMethodName:    operator,
	duoflowv1.Admin_Cancel_FullMethodName:     operator,
	duoflowv1.Admin_Pause_FullMethodName:      operator,
	duoflowv1.Admin_Resume_FullMethodName:     operator,
}

// needs is the smallest role that may make the request.
func needs(method string, request any) role {
	if failover, ok := request.(*duoflowv1.FailoverRequest); ok && failover.GetForce() {
		return admin
	}
	if r, ok := needed[method]; ok {
		return r
	}
	return admin
}

// caller is who asks.
type caller struct {
	name  string // CN of the certificate; "local" on a listener without TLS
	addr  string
	role  role
	guest *door.Guest
}

type callerKey struct{}

// CallerName is who asks, in the context of a call to a Node: the CN of the certificate, or "local"; "" elsewhere.
func CallerName(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// callerOf reads who asks from the verified certificate of the connection. open says that the
// listener has no TLS.
func callerOf(ctx context.Context, open bool) (caller, error) {
	guest, secured, ok := door.From(ctx)
	if !ok {
		return caller{}, status.Error(codes.Unauthenticated, "the connection is unknown")
	}
	who := caller{addr: guest.RemoteAddr().String(), guest: guest}
	if open {
		who.name, who.role = "local", admin
		return who, nil
	}
	if secured == nil || len(secured.VerifiedChains) == 0 {
		return caller{}, status.Error(codes.Unauthenticated, "a client certificate of the cluster's authority is needed")
	}
	leaf := secured.VerifiedChains[0][0]
	who.name, who.role = leaf.Subject.CommonName, roleOf(leaf)
	return who, nil
}

// roleOf is the largest role the certificate names; a viewer when it names none.
func roleOf(certificate *x509.Certificate) role {
	largest := viewer
	for _, unit := range certificate.Subject.OrganizationalUnit {
		largest = max(largest, roleNames[unit])
	}
	return largest
}
