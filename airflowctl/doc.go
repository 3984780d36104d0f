// Package airflowctl is one job on this host: its process trees, its fence, the credentials of its epochs, and, for
// Airflow, the adoption of what a dead scheduler left and a warm standby that can go on at once. It does what it is
// told and reports what happens; package node decides.
package airflowctl
