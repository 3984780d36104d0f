package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// tailLines and tailWidth bound what a life's log keeps in memory: lines, and bytes of each.
	tailLines = 200
	tailWidth = 1 << 10
	// stamp starts each line of a job's log.
	stamp = "2006-01-02T15:04:05.000Z"
	// patience is how long a line is waited for; a disk that takes longer is not waited for again until it has
	// caught up. backlog bounds what it may be behind, in bytes; what comes on top is lost.
	patience = 100 * time.Millisecond
	backlog  = 1 << 20
	// closeWithin bounds how long Close waits for a disk.
	closeWithin = time.Second
)

// errBehind is why a line is lost without having been written.
var errBehind = errors.New("the disk is too far behind")

// JobLogConfig says where the output of a job goes.
type JobLogConfig struct {
	// Dir is made if missing (0750).
	Dir string
	// Base names the files: Base.log, and Base.log.1 (newest) to Base.log.<Keep> (oldest). The
	// same rule as for Config.Name.
	Base string
	// MaxBytes is the size at which a file is full; a line is never split over two.
	MaxBytes int64
	// Keep is how many full files stay beside the current one; 0 keeps none.
	Keep int
}

func (c JobLogConfig) validate() error {
	var problems []error
	if c.Dir == "" {
		problems = append(problems, errors.New("no dir"))
	}
	if !pathSafe.MatchString(c.Base) {
		problems = append(problems, fmt.Errorf("base %q: want %s", c.Base, pathSafe))
	}
	if c.MaxBytes <= 0 {
		problems = append(problems, fmt.Errorf("max bytes %d: want > 0", c.MaxBytes))
	}
	if c.Keep < 0 {
		problems = append(problems, fmt.Errorf("keep %d: want >= 0", c.Keep))
	}
	return errors.Join(problems...)
}

// JobLog is the rotated log files of one job, shared by its lives. Safe for concurrent use. A disk that is full, or
// does not answer, costs lines, which are counted, and never holds up who writes them.
type JobLog struct {
	cfg JobLogConfig
	now func() time.Time

	mu     sync.Mutex
	queue  []entry
	queued int           // bytes of it
	idle   chan struct{} // closed when nobody is at the files; nil = nobody is
	behind bool          // a line had to wait for longer than patience, and the queue was not empty since
	over   uint64        // lines lost because the queue was full
	failed uint64        // lines lost because they could not be written
	shut   bool

	// Of who is at the files: the goroutine that idle belongs to, or Close.
	file *os.File // nil when it could not be opened; the next line tries again
	size int64
	torn bool   // the last write was cut short, as on a full disk
	gap  uint64 // lines that failed since the last one that did not
	told uint64 // of over, what the files tell of
}

// entry is one line on its way to the disk.
type entry struct {
	text []byte
	over uint64     // lines lost before it because the queue was full
	done chan error // capacity 1
}

// OpenJobLog opens the current file, appending to what is there.
func OpenJobLog(cfg JobLogConfig) (*JobLog, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("job log config: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("open job log: %w", err)
	}
	l := &JobLog{cfg: cfg, now: time.Now}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Path is the current file.
func (l *JobLog) Path() string { return filepath.Join(l.cfg.Dir, l.cfg.Base+".log") }

// Lost tells how many lines could not be written since the log was opened.
func (l *JobLog) Lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over + l.failed
}

// Close closes the file when all lines are written; later lines are refused with os.ErrClosed. A disk that does not
// answer within a second is left alone.
func (l *JobLog) Close() error {
	l.mu.Lock()
	l.shut = true
	idle := l.idle
	l.mu.Unlock()
	if idle != nil {
		timer := time.NewTimer(closeWithin)
		defer timer.Stop()
		select {
		case <-idle:
		case <-timer.C:
			return fmt.Errorf("close job log: %w", errBehind)
		}
	}
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if err != nil {
		return fmt.Errorf("close job log: %w", err)
	}
	return nil
}

// Life is the writer for one life: fit for Spec.Output. Every line gets the time (UTC) and the
// label in front in the file, since the active life and its warm spare share it.
func (l *JobLog) Life(label string) *LifeLog { return &LifeLog{log: l, label: label} }

func (l *JobLog) open() error {
	file, err := os.OpenFile(l.Path(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open job log: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open job log: %w", err), file.Close())
	}
	l.file, l.size = file, info.Size()
	return nil
}

// write has one line, newline included, appended. nil: it is written, or the disk is slow and it will be.
func (l *JobLog) write(label string, line []byte) error {
	text := fmt.Appendf(nil, "%s %s %s\n", l.now().UTC().Format(stamp), label, line)
	e := entry{text: text, done: make(chan error, 1)}
	wait, err := l.enqueue(e)
	if err != nil {
		return fmt.Errorf("write job log: %w", err)
	}
	if !wait {
		return nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-e.done:
		return err
	case <-timer.C:
	}
	l.mu.Lock()
	l.behind = l.idle != nil
	l.mu.Unlock()
	return nil
}

// enqueue takes a line, has somebody write it, and says whether the disk is quick enough to be waited for.
func (l *JobLog) enqueue(e entry) (wait bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.shut:
		return false, os.ErrClosed
	case l.queued+len(e.text) > backlog:
		l.over++
		return false, errBehind
	}
	e.over = l.over
	l.queue = append(l.queue, e)
	l.queued += len(e.text)
	if l.idle == nil {
		l.idle = make(chan struct{})
		go l.drain()
	}
	return !l.behind, nil
}

// drain writes what is queued, and ends when that is nothing.
func (l *JobLog) drain() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			close(l.idle)
			l.queue, l.idle, l.behind = nil, nil, false
			l.mu.Unlock()
			return
		}
		e := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		err := l.append(e)
		l.mu.Lock()
		l.queued -= len(e.text)
		if err != nil {
			l.failed++
		}
		l.mu.Unlock()
		e.done <- err
	}
}

// append writes one line in one system call; before it, how many are missing.
func (l *JobLog) append(e entry) error {
	l.gap++ // should this one fail too
	text := e.text
	if missing := e.over - l.told + l.gap - 1; missing > 0 {
		note := fmt.Appendf(nil, "%s duoflow: %d lines before this one are lost\n", l.now().UTC().Format(stamp), missing)
		text = append(note, text...)
	}
	if l.size > 0 && l.size+int64(len(text)) > l.cfg.MaxBytes {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	if l.torn {
		text = append([]byte("\n"), text...)
	}
	n, err := l.file.Write(text)
	l.size += int64(n)
	l.torn = n < len(text) && (n > 0 || l.torn)
	if err != nil {
		return fmt.Errorf("write job log: %w", err)
	}
	l.gap, l.told = 0, e.over
	return nil
}

// rotate moves every file one number up; what was the oldest is overwritten.
func (l *JobLog) rotate() error {
	file := l.file
	l.file, l.size = nil, 0
	if file != nil {
		if err := file.Close(); err != nil {
			return fmt.Errorf("rotate job log: %w", err)
		}
	}
	if l.cfg.Keep == 0 {
		return ignoreMissing(os.Remove(l.Path()))
	}
	for n := l.cfg.Keep - 1; n >= 0; n-- {
		if err := ignoreMissing(os.Rename(l.numbered(n), l.numbered(n+1))); err != nil {
			return err
		}
	}
	return nil
}

func (l *JobLog) numbered(n int) string {
	if n == 0 {
		return l.Path()
	}
	return fmt.Sprintf("%s.%d", l.Path(), n)
}

func ignoreMissing(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("rotate job log: %w", err)
}

// LifeLog writes the output of one life to its job's log, and remembers the last lines of it for
// the history of a life that failed. Safe for concurrent use.
type LifeLog struct {
	log   *JobLog
	label string

	mu   sync.Mutex
	part []byte   // a line without its newline yet
	tail []string // ring, oldest at next once it is full
	next int
}

// Write takes any pieces of text and writes whole lines; a line of more than 64 KiB is cut. It
// always takes all of p; the error is the first one the file gave. While the disk does not answer it takes 100 ms once,
// then no time.
func (l *LifeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problem error
	for _, b := range p {
		if b == '\n' || len(l.part) == maxLine {
			l.keep(l.part)
			if err := l.log.write(l.label, l.part); err != nil && problem == nil {
				problem = err
			}
			l.part = l.part[:0]
		}
		if b != '\n' {
			l.part = append(l.part, b)
		}
	}
	return len(p), problem
}

func (l *LifeLog) keep(line []byte) {
	text := string(line[:min(len(line), tailWidth)])
	if len(l.tail) < tailLines {
		l.tail = append(l.tail, text)
		return
	}
	l.tail[l.next] = text
	l.next = (l.next + 1) % tailLines
}

// Tail gives the last n lines of this life, oldest first: at most 200, each cut at 1 KiB.
func (l *LifeLog) Tail(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(0, min(n, len(l.tail)))
	lines := make([]string, 0, n)
	for i := len(l.tail) - n; i < len(l.tail); i++ {
		lines = append(lines, l.tail[(l.next+i)%len(l.tail)])
	}
	return lines
}
