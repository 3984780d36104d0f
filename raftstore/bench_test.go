package raftstore

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPropose measures one command after the other through the leader, three nodes on this disk.
func BenchmarkPropose(b *testing.B) {
	c := newQuietCluster(b)
	leader := c.leader()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := leader.store.Propose(context.Background(), make([]byte, 200)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	_, fsync := leader.store.took.last()
	b.ReportMetric(float64(fsync.Microseconds()), "fsync-p99-us")
}

// BenchmarkIdle measures the CPU time of three nodes that beat every 50 ms, in percent of one CPU and
// per node.
func BenchmarkIdle(b *testing.B) {
	c := newQuietCluster(b)
	c.leader()
	cpu, start := cpuTime(b), time.Now()
	for b.Loop() {
		for _, m := range c.members {
			m.store.Broadcast(make([]byte, 300))
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.ReportMetric(100*float64(cpuTime(b)-cpu)/float64(time.Since(start))/3, "cpu-%/node")
}

// newQuietCluster runs a cluster without logs.
func newQuietCluster(b *testing.B) *cluster {
	b.Helper()
	c := newCluster(b, func(cfg *Config) { cfg.Logger = nil })
	c.startAll()
	return c
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
