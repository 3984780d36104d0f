// Package admin serves the operators' gRPC service of one node: it authenticates the caller, checks
// its role, refuses malformed requests, and hands the rest to a Node. It decides nothing itself.
//
// The role of a caller is the OU of its client certificate: viewer, operator or admin. Any other
// certificate signed by the cluster's authority, a node's own for example, is a viewer. A listener
// without TLS is only possible on a loopback address, where every caller is an admin.
//
// Panics are not recovered: one in a handler ends the process, as everywhere in duoflow.
package admin
