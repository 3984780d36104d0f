// Package lab builds a small data centre on one machine: hosts that can be cut off, frozen and killed
// as a whole, a real Postgres, RabbitMQ and Airflow, and duoflowd nodes on the hosts.
//
// A host is a network namespace on a private bridge plus a cgroup. Killing it is one write to
// cgroup.kill, so nothing that ever ran on it survives; cutting it drops packets without a reset, as a
// pulled cable does. Everything ends when the process that called Up does, however that ends: a small
// watcher outside the lab's cgroups sees its pipe close and cleans up. Several labs can run at once.
//
// Needs root and a mounted cgroup v2. Where network namespaces cannot be made the hosts get loopback
// addresses instead, and Cut says that it cannot. Only addresses of the lab itself are ever contacted.
package lab
