package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/sandbox"
)

// pty is a terminal for a program: what it writes there is collected.
type pty struct {
	t    *testing.T
	far  *os.File // the program's end
	near *os.File

	mu   sync.Mutex
	text strings.Builder
	done chan struct{}
}

func newPTY(t *testing.T) *pty {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, far: far, near: near, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for piece := make([]byte, 4096); ; {
			n, err := near.Read(piece) // fails once nobody has the other end open
			p.mu.Lock()
			p.text.Write(piece[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func (p *pty) resize(columns, rows int) {
	p.t.Helper()
	if err := unix.IoctlSetWinsize(int(p.near.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pty) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// TestProgressOnATerminal runs duoetl on a real terminal, which becomes narrower in the middle: its lines are cut to either width,
// without colour if NO_COLOR is set; a terminal that can only write on gets JSON lines.
func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		name  string
		env   []string
		drawn bool
		color bool
	}{
		{"color", []string{"TERM=xterm", "NO_COLOR="}, true, true},
		{"no_color", []string{"TERM=xterm", "NO_COLOR=1"}, true, false},
		{"dumb", []string{"TERM=dumb", "NO_COLOR="}, false, false},
	} {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			s, pipeline, p := theStage(t), fresh("pty_"+one.name), newPTY(t)
			s.configure(pipeline)
			p.resize(100, 30)
			held, release := s.hold(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Name: "duoflow_" + pipeline + "_2017_"})
			c := s.command(pipeline, 1, "run")
			c.Env = append(c.Env, one.env...)
			c.Stderr = p.far
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			if err := p.far.Close(); err != nil { // ours
				t.Fatal(err)
			}
			shown := func() int { return strings.Count(p.String(), "extract") }
			s.until("some drawings", func() bool { return held() && shown() >= 3 })
			wide := p.String()
			p.resize(40, 30)
			before := shown()
			s.until("what was under way to be drawn", func() bool { return shown() >= before+2 })
			narrow := len(p.String())
			s.until("a narrow one", func() bool { return shown() >= before+3 })
			release()
			if err := c.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, p)
			}
			<-p.done
			p.looks(len(wide), narrow, one.drawn, one.color)
		})
	}
}

// looks checks all that was written: up to wide on the wide terminal, from narrow on on the narrow one.
func (p *pty) looks(wide, narrow int, drawn, color bool) {
	p.t.Helper()
	all := p.String()
	if escapes, colors := strings.Contains(all, "\x1b["), strings.Contains(all, "\x1b[1m"); escapes != drawn || colors != color {
		p.t.Errorf("sequences: %v, want %v; colours: %v, want %v\n%q", escapes, drawn, colors, color, all)
	}
	if !drawn {
		if n := strings.Count(all, `{"progress":`); n < 6 {
			p.t.Errorf("%d JSON lines, want at least the 6 that were waited for\n%s", n, all)
		}
		return
	}
	end := all[narrow:]
	end = end[strings.Index(end, "\x1b[J")+3:]
	for text, most := range map[string]int{all[:wide]: 99, end: 39} {
		v := &terminal{t: p.t, columns: 1000}
		for line := range strings.SplitSeq(text, "\n") {
			v.lines, v.at, v.column = nil, 0, 0
			if _, err := v.Write([]byte(strings.NewReplacer("\x1b[7A", "", "\x1b[14A", "").Replace(line))); err != nil {
				p.t.Fatal(err)
			}
			if n := len([]rune(v.String())); n > most {
				p.t.Errorf("a line of %d characters, at most %d have room: %q", n, most, line)
			}
		}
	}
	if !strings.Contains(end, "2 of 2 chunks") {
		p.t.Errorf("the last drawing does not say that all is done: %q", end)
	}
}

// TestProgressElsewhere: one JSON line a second, and not a byte that steers a terminal.
func TestProgressElsewhere(t *testing.T) {
	t.Parallel()
	s, pipeline := theStage(t), fresh("lines")
	s.configure(pipeline)
	_, release := s.hold(sandbox.Fault{Server: sandbox.BigQuery, Call: "job", Name: "duoflow_" + pipeline + "_2017_"})
	c := s.command(pipeline, 1, "run", "-o", "json")
	c.Env = append(slices.Clone(c.Env), "TERM=xterm")
	errs, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var last etl.Progress
	lines, began := 0, time.Now()
	for in := bufio.NewScanner(errs); in.Scan(); lines++ {
		var one struct {
			Progress *etl.Progress `json:"progress"`
		}
		if err := json.Unmarshal(in.Bytes(), &one); err != nil || one.Progress == nil || strings.Contains(in.Text(), "\x1b") {
			t.Errorf("line %q: %v", in.Text(), err)
			continue
		}
		if last = *one.Progress; lines == 2 {
			release()
		}
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if most := int(time.Since(began)/lineEvery) + 1; lines > most {
		t.Errorf("%d lines, at most %d are one a second and the last", lines, most)
	}
	if lines < 3 || last.Done != 2 || last.Steps[5].Done != 2 {
		t.Errorf("%d lines, the last of them %+v", lines, last)
	}
}
