package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress shows what is going on, from several goroutines.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	began time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out: out, began: time.Now()} }

func (p *progress) say(who, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := time.Since(p.began).Round(time.Second)
	fmt.Fprintf(p.out, "versus: %6s  %-14s  %s\n", since, who, fmt.Sprintf(format, args...))
}
