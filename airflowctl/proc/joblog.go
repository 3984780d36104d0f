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
)

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

// JobLog is the rotated log files of one job, shared by its lives. Safe for concurrent use.
type JobLog struct {
	cfg JobLogConfig
	now func() time.Time

	mu   sync.Mutex
	file *os.File // nil when it could not be opened; the next line tries again
	size int64
	torn bool // the last write was cut short, as on a full disk
	shut bool
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

// Close closes the file; later lines are refused with os.ErrClosed.
func (l *JobLog) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
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

// write appends one line, newline included, in one system call.
func (l *JobLog) write(label string, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut {
		return fmt.Errorf("write job log: %w", os.ErrClosed)
	}
	text := fmt.Appendf(nil, "%s %s %s\n", l.now().UTC().Format(stamp), label, line)
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
// always takes all of p; the error is the first one the file gave.
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
