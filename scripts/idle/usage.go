package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// look is what the kernel has counted for one process, its children not included.
type look struct {
	at time.Time
	// threads by thread id. A thread that ends takes its count along, so they are compared one by one.
	threads map[string]thread
	// ticks are user and system time in hundredths of a second: what top shows, rounded by the timer interrupt.
	ticks uint64
	// resident and proportional are kB; proportional divides pages that several processes share.
	resident, proportional uint64
}

// thread is one line of /proc/PID/task/TID/schedstat and what status says.
type thread struct {
	ran    time.Duration // on a processor
	slices uint64        // times it was put on one
	waits  uint64        // times it went to sleep by itself
}

func readAll(all []watched) ([]look, error) {
	var looks []look
	for _, w := range all {
		l, err := readLook(filepath.Join("/proc", strconv.Itoa(w.process.PID())))
		if err != nil {
			return nil, fmt.Errorf("read figures of %s: %w", w.name, err)
		}
		looks = append(looks, l)
	}
	return looks, nil
}

// readLook reads a folder of /proc.
func readLook(dir string) (look, error) {
	l := look{at: time.Now(), threads: map[string]thread{}}
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return l, err
	}
	for _, task := range tasks {
		t, err := readThread(filepath.Join(dir, "task", task.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // it has just ended
		}
		if err != nil {
			return l, err
		}
		l.threads[task.Name()] = t
	}
	var errs [3]error
	l.ticks, errs[0] = readTicks(filepath.Join(dir, "stat"))
	l.resident, errs[1] = readField(filepath.Join(dir, "status"), "VmRSS:")
	l.proportional, errs[2] = readField(filepath.Join(dir, "smaps_rollup"), "Pss:")
	return l, errors.Join(errs[:]...)
}

func readThread(dir string) (thread, error) {
	var ran, waited, slices uint64
	text, err := os.ReadFile(filepath.Join(dir, "schedstat"))
	if err != nil {
		return thread{}, err
	}
	if _, err := fmt.Sscan(string(text), &ran, &waited, &slices); err != nil {
		return thread{}, fmt.Errorf("parse schedstat %q: %w", text, err)
	}
	waits, err := readField(filepath.Join(dir, "status"), "voluntary_ctxt_switches:")
	return thread{ran: time.Duration(ran), slices: slices, waits: waits}, err
}

// readTicks reads utime and stime, fields 14 and 15 counted behind the name, which may hold anything.
func readTicks(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("parse %s: %d fields", path, len(fields))
	}
	user, err1 := strconv.ParseUint(fields[11], 10, 64)
	system, err2 := strconv.ParseUint(fields[12], 10, 64)
	return user + system, errors.Join(err1, err2)
}

// readField reads the number of a line "name: number" of a file of such lines.
func readField(path, name string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == name {
			return strconv.ParseUint(fields[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("parse %s: no %s", path, name)
}
