package main

import (
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/proc"
	"github.com/duoflow/duoflow/node"
	"github.com/duoflow/duoflow/node/lease"
)

// veil keeps what this process knows to itself: it leaves no core, and no other process of the same user may trace it or read its
// memory, its environment or its open files. root still may. The jobs, and whatever else it starts, are not veiled: exec(2) takes it
// away, so that their cores are the operator's to have.
func veil() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}

// veilAgain is for root after each start of a process: a job that runs as another user has taken the veil from us too, where
// fs.suid_dumpable is not 0, as with systemd-coredump; see proc.Config. No other daemon may start one.
func veilAgain(logger *slog.Logger) {
	if os.Geteuid() != 0 {
		return
	}
	if err := veil(); err != nil {
		logger.Warn("this daemon may leave a core", "err", err)
	}
}

// veilBeside is veil for a daemon that is not root, once its jobs are made. Where those live in PID namespaces, which such a daemon may
// make in a user namespace only, its child's /proc/PID/uid_map would be root's, and no job could be started: there it leaves no core
// either, and says that its memory can be read by its user's other processes.
func veilBeside(jobs map[lease.JobName]node.HostedJob, logger *slog.Logger) error {
	if os.Geteuid() == 0 {
		return nil
	}
	for name, hosted := range jobs {
		if job, ok := hosted.(*airflowctl.Job); ok && job.Mode() == proc.ModePIDNS {
			logger.Warn("other processes of this user may read this daemon's memory: give it a cgroup of its own, or run it as root", "job", string(name))
			return noCore()
		}
	}
	return veil()
}

// noCore is for the jobs too: a limit is inherited.
func noCore() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}
