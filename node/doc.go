// Package node is one duoflowd: it joins the replicated log, gossip, the jobs of this host and the surfaces for
// operators, and decides nothing. One goroutine (loop.go) owns the pure machines of package control; it feeds them
// inputs and hands their effects to goroutines, whose results come back as inputs.
package node
