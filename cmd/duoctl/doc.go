// Command duoctl is the operator's tool of a duoflow cluster: it asks any node over gRPC, and prints a
// table, JSON or YAML. It also prepares what a cluster needs before its first start: the certificates
// (tls init) and the metastore (metastore init).
//
// Exit codes: 0 ok, 1 failed, 2 usage, 3 refused as unsafe, 4 no quorum, 5 timeout, 6 stale or not
// authoritative.
package main
