package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// exitFenced is duoetl's exit code for an epoch that is over.
const exitFenced = 4

// parts is a copy of three parts in one stream, whose host dies in the last: the other host sends this one only.
func (s *etlStage) parts() {
	s.Options.Objects, s.Options.Parallel = "tiles-{chunk}.csv", 1
	defer func() { s.Options.Objects, s.Options.Parallel = "", 4 }()
	s.next("parts")
	const comments = 12 << 20
	for year := 2016; year <= 2018; year++ {
		text := fmt.Appendf(nil, "#ZDAY,CENTERLON,CENTERLAT,TOTAL_COUNT\n%d0704,-100.0,35.0,7\n", year)
		if fmt.Sprint(year) == middle {
			text = append(text, bytes.Repeat([]byte("# "+strings.Repeat("x", 1021)+"\n"), comments/1024)...)
		}
		must(s.t, s.Put(s.ctx, fmt.Sprintf("tiles-%d.csv", year), text))
	}
	p := point{name: "within parts", fault: lab.SandboxFault{Server: "s3", Call: "UploadPart", Name: "/raw/" + middle, Skip: 2}}
	reached := s.hold(p)
	must(s.t, s.Configure())
	s.await("the last part is sent", reached)
	old := s.active
	must(s.t, s.c.Nodes[old.Node].Kill(s.ctx))
	must(s.t, s.ClearFaults(s.ctx))
	must(s.t, s.AddFault(s.ctx, lab.SandboxFault{Server: "s3", Call: "UploadPart"})) // only counts
	s.moved(old)
	s.finished(s.active.Epoch)
	if hits, err := s.FaultHits(s.ctx); err != nil || hits[0] != 1 {
		s.t.Errorf("%v parts were sent by the next host, %v; want the one that was under way", hits, err)
	}
	if loaded, err := s.Loaded(s.ctx, s.conn); err != nil || loaded != (lab.Totals{Rows: 3, Strikes: 21}) {
		s.t.Errorf("loaded %+v, %v", loaded, err)
	}
	s.redone(p, old)
	s.standby(old.Node)
}

// switchover asks duoetl to end in the middle of a step: it does at once, and the other node goes on.
func (s *etlStage) switchover() {
	s.next("switchover")
	p := point{name: "switched over", fault: lab.SandboxFault{Server: "s3", Call: "GetObject", Name: "/raw/" + middle}}
	reached := s.hold(p)
	must(s.t, s.Configure())
	s.await("the point is reached", reached)
	old, asked := s.active, time.Now()
	mustCtl(s.ctx, s.t, s.c, "switchover", "--job", "scheduler", "--yes")
	s.moved(old)
	s.release(p)
	s.finished(s.active.Epoch)
	took := time.Since(asked)
	s.check(p.name)
	s.redone(p, old)
	s.t.Logf("%s from the request to the end", took.Round(time.Millisecond))
	s.standby(old.Node)
}

// frozenHost stands still in the middle of a step, is replaced, and wakes up with the answer in its socket. Daemon and duoetl
// find out at the same time that they are over; whichever is first, nothing is written.
func (s *etlStage) frozenHost() {
	s.next("frozen_host")
	must(s.t, s.AddFault(s.ctx, lab.SandboxFault{Server: "s3", Call: "GetObject", Name: "/raw/" + middle, Times: 1, Delay: 3000}))
	must(s.t, s.Configure())
	s.await("the call is held", func() bool {
		hits, err := s.FaultHits(s.ctx)
		return err == nil && hits[0] > 0
	})
	old, held := s.active, time.Now()
	node := s.c.Nodes[old.Node]
	must(s.t, node.Freeze(s.ctx))
	s.moved(old)
	s.finished(s.active.Epoch)
	s.check("frozen")
	time.Sleep(time.Until(held.Add(3500 * time.Millisecond))) // the answer waits for the frozen program
	before := s.written(old)
	must(s.t, node.Thaw(s.ctx))
	s.standby(old.Node)
	s.await("nothing of the old epoch runs", func() bool { return len(s.duoetls(node)) == 0 })
	if s.written(old) != before {
		s.t.Errorf("epoch %d has written after it was over", old.Epoch)
	}
	s.check("woken")
}

// frozenProgram is duoetl alone with the fence: all of its host stands still and is replaced, and duoetl wakes up while its daemon
// does not. It must end by itself, with its own exit code.
func (s *etlStage) frozenProgram() {
	s.next("frozen_program")
	p := point{name: "frozen", step: "ingest", state: "started"}
	reached := s.hold(p)
	must(s.t, s.Configure())
	s.await("the point is reached", reached)
	old := s.active
	node := s.c.Nodes[old.Node]
	programs := s.duoetls(node)
	if len(programs) != 1 {
		s.t.Fatalf("processes %v are duoetl, want one", programs)
	}
	all, err := node.PIDs()
	must(s.t, err)
	for _, pid := range all {
		must(s.t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	s.moved(old)
	s.release(p)
	s.finished(s.active.Epoch)
	before := s.written(old)
	must(s.t, syscall.Kill(programs[0], syscall.SIGCONT))
	var code int
	s.await("duoetl has ended", func() (ended bool) {
		code, ended = zombie(programs[0]) // whoever would reap it stands still
		return ended
	})
	if code != exitFenced || s.written(old) != before {
		s.t.Errorf("exit code %d, want %d; the epoch's last write is number %d, was %d", code, exitFenced, s.written(old), before)
	}
	for _, pid := range all {
		if err := syscall.Kill(pid, syscall.SIGCONT); !errors.Is(err, syscall.ESRCH) { // an ended one may be reaped meanwhile
			must(s.t, err)
		}
	}
	s.standby(old.Node)
	s.check("woken")
}

// written is the number of the last write that was committed under an epoch or an older one.
func (s *etlStage) written(old lab.Active) int {
	s.t.Helper()
	return number(s.ctx, s.t, s.conn, `SELECT max(seq) FROM public.entry WHERE epoch <= $1`, int64(old.Epoch))
}

// duoetls are the processes of a node that are duoetl.
func (s *etlStage) duoetls(node *lab.Node) (all []int) {
	s.t.Helper()
	pids, err := node.PIDs()
	must(s.t, err)
	for _, pid := range pids {
		if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && string(name) == "duoetl\n" {
			all = append(all, pid)
		}
	}
	return all
}

// zombie reads the exit code of a process that has ended and was not reaped.
func zombie(pid int) (code int, ended bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	const state, status = 0, 52 - 3 // fields 3 and 52 of proc(5), counted behind the name
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) <= status || fields[state] != "Z" {
		return 0, false
	}
	word, err := strconv.Atoi(fields[status])
	if err != nil {
		return 0, false
	}
	return syscall.WaitStatus(word).ExitStatus(), true
}
