// Package relay is a bad network between hosts that are network namespaces of one machine: it delays, loses, duplicates and
// reorders packets, by a rule for each ordered pair of hosts. It stands where a sender's packets leave its device, as netem
// would; kernels without netem are common.
package relay
