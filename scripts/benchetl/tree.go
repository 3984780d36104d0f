package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// watch looks how much memory a process and all that it has started have together. What they share is counted for each; of a Java
// that is little.
type watch struct {
	pid  int
	peak int64
	stop chan struct{}
	all  sync.WaitGroup
}

func (w *watch) begin() {
	w.stop = make(chan struct{})
	w.all.Go(func() {
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			w.peak = max(w.peak, resident(w.pid))
			select {
			case <-w.stop:
				return
			case <-ticker.C:
			}
		}
	})
}

// end is the most that was seen; 0 if it was not begun.
func (w *watch) end() int64 {
	if w.stop != nil {
		close(w.stop)
		w.all.Wait()
	}
	return w.peak
}

// resident is what a process and those below it have in memory, in bytes.
func resident(root int) (sum int64) {
	type process struct {
		parent int
		bytes  int64
	}
	all := map[int]process{}
	found, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, file := range found {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it is gone
		}
		const parent, pages = 4 - 3, 24 - 3 // fields of proc(5), counted behind the name
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) <= pages {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		up, _ := strconv.Atoi(fields[parent])
		rss, _ := strconv.ParseInt(fields[pages], 10, 64)
		all[pid] = process{up, rss * int64(os.Getpagesize())}
	}
	for pid, p := range all {
		for at := pid; at > 1; at = all[at].parent {
			if at == root {
				sum += p.bytes
				break
			}
		}
	}
	return sum
}
