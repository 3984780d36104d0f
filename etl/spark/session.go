package spark

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Errors of a Spark that is there.
var (
	// ErrDied: Spark ended while it was at work. It is started again for the next chunk.
	ErrDied = errors.New("spark died")
	// ErrStalled: nobody does the work: a cluster without workers, or with none that has room.
	ErrStalled = errors.New("spark waits for workers")
	// ErrQuery: Spark could not do what it was asked.
	ErrQuery = errors.New("spark failed")
)

// session is a Spark that runs.
type session struct {
	config  Config
	dir     string   // of this run; removed with it
	lock    *os.File // says that somebody uses dir
	process *process
	link    net.Conn
	answers chan answer // closed when the link is
	reader  sync.WaitGroup
	ready   ready
	pages   pages
	asked   int
}

// ready is the first line that job.py says.
type ready struct {
	Version     string `json:"version"`
	Python      string `json:"python"`
	Java        string `json:"java"`
	Application string `json:"application"`
	UI          string `json:"ui"`
}

// request is one chunk; see job.py.
type request struct {
	ID         int      `json:"id"`
	Inputs     []string `json:"inputs"`
	Queries    []query  `json:"queries"`
	Partitions int      `json:"partitions"`
	Out        string   `json:"out"`
}

type query struct {
	Name string `json:"name"`
	SQL  string `json:"sql"`
}

type answer struct {
	ready
	ID      int    `json:"id"`
	Error   string `json:"error"`
	Stopped bool   `json:"stopped"` // Spark cannot go on
}

// startWithin is how long Spark may take to start: it asks a master three times, twenty seconds apart; and with a processor that
// twenty others want it took 160 s here.
const startWithin = 5 * time.Minute

// open starts Spark and waits until it is ready.
func open(ctx context.Context, c Config, i install) (*session, error) {
	host, err := c.reach(ctx)
	if err != nil {
		return nil, err
	}
	s := &session{config: c, answers: make(chan answer, 1)}
	if err := s.makeDir(); err != nil {
		return nil, err
	}
	if err := s.start(ctx, host, i); err != nil {
		s.kill()
		return nil, err
	}
	c.Logger.Debug("spark is ready", "version", s.ready.Version, "java", s.ready.Java, "python", s.ready.Python, "master", c.Master, "application", s.ready.Application)
	return s, nil
}

func (s *session) start(ctx context.Context, host string, i install) error {
	if err := s.config.lay(s.dir, host, i); err != nil {
		return err
	}
	name := filepath.Join(s.dir, nameSocket)
	if len(name) >= len(syscall.RawSockaddrUnix{}.Path) {
		return fmt.Errorf("%w: the folder for work has too long a name for a socket in it: %s", ErrMissing, name)
	}
	listener, err := net.Listen("unix", name)
	if err != nil {
		return fmt.Errorf("start spark: %w", err)
	}
	calls := make(chan net.Conn, 1)
	defer func() {
		listener.Close()
		for conn := range calls { // that nobody took
			conn.Close()
		}
	}()
	s.reader.Go(func() {
		defer close(calls)
		if conn, accepted := listener.Accept(); accepted == nil {
			calls <- conn
		}
	})
	if s.process, err = launch(s.config, s.dir, i); err != nil {
		return err
	}
	return s.greet(ctx, calls)
}

// greet waits for job.py's call, and for the line with which it says that Spark is ready.
func (s *session) greet(ctx context.Context, calls <-chan net.Conn) (err error) {
	late := time.NewTimer(startWithin)
	defer late.Stop()
	for {
		select {
		case conn, ok := <-calls:
			if !ok {
				return fmt.Errorf("start spark: %w", net.ErrClosed)
			}
			calls, s.link = nil, conn
			s.reader.Go(s.read)
		case a, ok := <-s.answers:
			if !ok {
				return s.died("start")
			}
			s.ready = a.ready
			s.pages, err = newPages(a.ready)
			return err
		case <-s.process.ended:
			return fmt.Errorf("%w: spark-submit: %s", ErrMissing, s.process.why())
		case <-late.C:
			return fmt.Errorf("%w: no answer after %v; it said: %s", ErrMissing, startWithin, s.process.said.last())
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// makeDir makes the run's folder, and removes those of runs that were killed.
func (s *session) makeDir() (err error) {
	if err = os.MkdirAll(s.config.Dir, 0o700); err != nil {
		return fmt.Errorf("make folder for spark: %w", err)
	}
	sweep(s.config.Dir)
	if s.dir, err = os.MkdirTemp(s.config.Dir, dirPrefix); err != nil {
		return fmt.Errorf("make folder for spark: %w", err)
	}
	s.lock, err = os.OpenFile(filepath.Join(s.dir, nameLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		_ = os.RemoveAll(s.dir) // the reason is told already
		return fmt.Errorf("make folder for spark: %w", err)
	}
	return nil
}

const dirPrefix = "spark-"

// sweep removes folders whose owner is gone. What cannot be removed is left for the next time.
func sweep(dir string) {
	all, _ := filepath.Glob(filepath.Join(dir, dirPrefix+"*", nameLock))
	for _, name := range all {
		lock, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(name))
		}
		lock.Close()
	}
}

// read hands on what job.py says, until it is gone.
func (s *session) read() {
	defer close(s.answers)
	in := bufio.NewScanner(s.link)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var a answer
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			a = answer{Stopped: true, Error: fmt.Sprintf("not an answer: %.100q", in.Text())}
		}
		s.answers <- a
	}
}

func (s *session) died(what string) error {
	s.process.wait(10 * time.Second) // its end is on its way, and says why
	return fmt.Errorf("%w during %s: %s", ErrDied, what, s.process.why())
}

// ask has a chunk added up, and says how far it is. The result is in the request's file.
func (s *session) ask(ctx context.Context, r request, note func(string)) error {
	s.asked++
	r.ID, r.Out = s.asked, s.file()
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("ask spark: %w", err)
	}
	if _, err := s.link.Write(append(text, '\n')); err != nil {
		return s.died("the work")
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	watch := newWatch(s, r.ID, note)
	for {
		select {
		case a, ok := <-s.answers:
			switch {
			case !ok:
				return s.died("the work")
			case a.Stopped:
				return fmt.Errorf("%w during the work: %s", ErrDied, hide(clip(a.Error), s.config.secrets()))
			case a.Error != "" || a.ID != r.ID:
				return fmt.Errorf("%w: %s", ErrQuery, hide(clip(a.Error), s.config.secrets()))
			}
			return nil
		case <-s.process.ended:
			return s.died("the work")
		case <-ticker.C:
			if err := watch.look(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// file is where the last result is.
func (s *session) file() string { return filepath.Join(s.dir, fmt.Sprintf("%d.columns", s.asked)) }

// finish lets Spark end by itself, which tells a cluster's master, and kills it if it does not.
func (s *session) finish() {
	if s.link != nil {
		_ = s.link.Close() // that is how it is told
		s.process.wait(15 * time.Second)
	}
	s.kill()
}

// kill ends Spark at once. Nothing of it is left when it returns.
func (s *session) kill() {
	if s.process != nil {
		s.process.kill()
	}
	if s.link != nil {
		_ = s.link.Close()    // the other end is gone
		for range s.answers { // until the reader has seen it
		}
	}
	s.reader.Wait()
	_ = os.RemoveAll(s.dir) // the next run sweeps what is left
	s.lock.Close()
}
