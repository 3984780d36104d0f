package lab

import (
	"context"
	"path/filepath"
)

// Host is a machine of the lab, or the machine itself (Hub): what is started on it can be killed and
// frozen at once, with everything that those processes have started.
type Host struct {
	Name string
	Addr string // IP address

	net  *Net
	dir  string // of logs
	node *cgroup
}

// Kill ends every process of the host with SIGKILL and returns when none is left. The kernel closes
// their connections, so peers see it at once; for a power cut see PowerOff.
func (h *Host) Kill(ctx context.Context) error { return h.node.kill(ctx) }

// Freeze stops every process of the host, as a paused virtual machine; the kernel still acknowledges
// packets. A process that is started meanwhile is frozen too.
func (h *Host) Freeze(ctx context.Context) error { return h.node.freeze(ctx, true) }

// Thaw undoes Freeze.
func (h *Host) Thaw(ctx context.Context) error { return h.node.freeze(ctx, false) }

// PowerOff kills every process while the host is cut off from all others: peers see silence, no
// connection closes. HealAll plugs it in again.
//
// The dead host's kernel lives on in the lab and would deliver, once plugged in, what the dead had sent
// last; the kernel of a machine without power does not. So its connections are thrown away too.
func (h *Host) PowerOff(ctx context.Context) error {
	if err := h.net.Isolate(ctx, h.Name); err != nil {
		return err
	}
	if err := h.Kill(ctx); err != nil {
		return err
	}
	return h.net.Do(h.Name, func() error { return run(ctx, "", "ss", "--kill", "--tcp", "--all") })
}

// PIDs lists the host's processes.
func (h *Host) PIDs() ([]int, error) { return h.node.pids() }

func (h *Host) logPath(name string) string { return filepath.Join(h.dir, h.Name+"-"+name+".log") }
