// Package web is the HTTP face of a node: health for load balancers, metrics for Prometheus, a status page for people.
//
//	/active[?job=NAME]   200 when the job is active on this node, else 503 (404 for a job that is not configured)
//	/standby[?job=NAME]  200 when this node could take the job over: ready, not a witness, job not active here
//	/witness             200 on a witness
//	/health              200 when the process is alive and the node's loop keeps going
//	/ready               200 when the node has joined and can do its part
//	/metrics             the Prometheus registry that was handed in
//	/                    the status page, with no request to anywhere else
//
// Without ?job= the first job counts. GET, HEAD and OPTIONS answer with the same status, the last two without a body;
// health checks of load balancers use all three. Bodies are JSON, nothing may be cached.
//
// Everything is read from one View, which says what the node's loop published last. When that is older than two
// seconds the loop hangs or the host was frozen, and every check answers 503: a thawed node must not say "active" from
// memory.
package web
