package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is one line of the process table.
type process struct {
	pid, parent int
	state       byte   // as in proc(5): R, S, T, Z ...
	threads     int    // 1 for a zombie
	start       uint64 // clock ticks since boot; with the pid it names a process for ever
	name        string // as in /proc/<pid>/comm
}

// zombie: nothing of the process runs any more. State Z alone is only about its first thread;
// another one may still be busy with ending the PID namespace.
func (p process) zombie() bool { return (p.state == 'Z' || p.state == 'X') && p.threads <= 1 }

// readProcesses lists all processes we can see. It is no snapshot: who moves meanwhile may be
// missing or listed under an old parent.
func readProcesses() ([]process, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer closeAll(dir)
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var list []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

func readProcess(pid int) (process, bool) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return process{}, false
	}
	return parseStat(pid, text)
}

// parseStat reads /proc/<pid>/stat. The command name in it is any text, so only what follows its
// last parenthesis can be split.
func parseStat(pid int, text []byte) (process, bool) {
	begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if begin < 0 || end < begin {
		return process{}, false
	}
	fields := strings.Fields(string(text[end+1:])) // from field 3, state
	if len(fields) < 20 {
		return process{}, false
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, false
	}
	threads, err := strconv.Atoi(fields[17])
	if err != nil {
		return process{}, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, false
	}
	return process{
		pid: pid, parent: parent, state: fields[0][0], threads: threads, start: start,
		name: string(text[begin+1 : end]),
	}, true
}

// descendants picks those below root out of list, root itself not included.
func descendants(list []process, root int) []process {
	children := make(map[int][]process)
	for _, p := range list {
		children[p.parent] = append(children[p.parent], p)
	}
	below := append([]process(nil), children[root]...)
	seen := map[int]bool{root: true}
	for i := 0; i < len(below); i++ { // grows while we walk
		pid := below[i].pid
		if seen[pid] {
			continue // a moving table can show a loop
		}
		seen[pid] = true
		below = append(below, children[pid]...)
	}
	return below
}

// killDescendants sends SIGKILL to all that live below root; the caller makes sure that root is
// still the process it means. One pass can miss those that fork or lose their parent meanwhile;
// the next one finds them, below root again because root is a subreaper.
func killDescendants(root int) error {
	list, err := readProcesses()
	if err != nil {
		return err
	}
	for _, p := range descendants(list, root) {
		if !p.zombie() {
			p.kill()
		}
	}
	return nil
}

// kill sends SIGKILL unless the pid has passed to another process since it was read. That it does
// not work shows in the next look at the tree.
func (p process) kill() {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if now, ok := readProcess(p.pid); ok && now.start == p.start {
		_ = unix.PidfdSendSignal(fd, syscall.SIGKILL, nil, 0)
	}
}

// innerPID is the pid of a process in its own PID namespace, 0 if it is gone.
func innerPID(pid int) int {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			fields := strings.Fields(ids)
			inner, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return 0
			}
			return inner
		}
	}
	return 0
}
