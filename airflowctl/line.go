package airflowctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// LineVariable names, in the environment of a command, the file whose first line is what the command says of itself. It
// is in the directory of the life, so it goes with the epoch.
const LineVariable = "DUOFLOW_STATUS_FILE"

// ScheduleVariable names, in the environment of a Runner, the file in which it says in the same way what its slots come to.
const ScheduleVariable = "DUOFLOW_SCHEDULE_FILE"

const (
	// lineFile and slotsFile are these files' names in the directory of a life.
	lineFile  = "status"
	slotsFile = "schedule"
	// lineBytes is the most that is passed on of a line, lineRead the most that is read of a file.
	lineBytes = 200
	lineRead  = 1024
	// lineEvery is the least time between two looks at the file.
	lineEvery = time.Second
)

// Line is what a job says of itself, for people: no decision reads it. The zero value is a job that says nothing.
type Line struct {
	// Text is as CleanLine leaves it.
	Text string
	// At is when it was found, on this host's clock: up to a second after it was written, or a beat more.
	At time.Time
}

// CleanLine makes one line for people of what a stranger wrote: the first line, white space made single spaces, without
// what is not printable (control characters, and those that change the direction of a text), at most 200 bytes.
func CleanLine(text []byte) string {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	plain := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r // of a byte that is no UTF-8: the replacement character
	}, string(first))
	plain = strings.Join(strings.Fields(plain), " ")
	if len(plain) <= lineBytes {
		return plain
	}
	end := lineBytes
	for !utf8.RuneStart(plain[end]) {
		end--
	}
	return strings.TrimSpace(plain[:end])
}

// edition tells one writing of a file from the next.
type edition struct {
	inode uint64
	mtime unix.Timespec
	size  int64
}

// readLine reads the beginning of a job's file; nothing when there is none. uid is who has to own it, -1 for anyone. The job may have put anything
// at that path, and we may be root: a link is not followed, and nothing but a plain file of its own is read; a pipe or
// a file on which somebody has a lease is not waited for.
func readLine(path string, uid int) ([]byte, edition, error) { return readOwn(path, uid, lineRead) }

// readOwn is readLine of at most so many bytes.
func readOwn(path string, uid, most int) ([]byte, edition, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, edition{}, nil
	case err != nil:
		return nil, edition{}, fmt.Errorf("open status file: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	var stat unix.Stat_t
	switch err := unix.Fstat(fd, &stat); {
	case err != nil:
		return nil, edition{}, fmt.Errorf("stat status file: %w", err)
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, edition{}, errors.New("status file is not a plain file")
	case uid >= 0 && int(stat.Uid) != uid:
		return nil, edition{}, fmt.Errorf("status file belongs to user %d, not to the job's", stat.Uid)
	}
	text := make([]byte, most)
	n, err := unix.Read(fd, text)
	if err != nil {
		return nil, edition{}, fmt.Errorf("read status file: %w", err)
	}
	return text[:n], edition{stat.Ino, stat.Mtim, stat.Size}, nil
}

// wantLine has the line of the current life read again, if that was not done within the last second. It is called with the lock
// held, whenever somebody asks for the status: so there is no timer that would wake an idle host for this.
func (j *Job) wantLine(now time.Time) {
	if j.current == nil || j.cfg.Kind != Command || now.Sub(j.lineAsked) < lineEvery {
		return
	}
	select {
	case j.lines <- j.current:
		j.lineAsked = now
	default: // the disk is slow, or hangs
	}
}

// readLines reads what lives say of themselves, beside those who want to know it: a disk may take its time.
func (j *Job) readLines(ctx context.Context) {
	uid, _, err := j.cfg.owner()
	if err != nil {
		j.logger.Warn("status files are not read", "err", err)
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-j.lines:
			l.note(&l.line, lineFile, uid)
			if j.cfg.Schedule != "" {
				l.note(&l.slots, slotsFile, uid)
			}
		}
	}
}

// told is what was read of one of a life's files. The job's lock guards line and numbers; the rest only readLines has to do with:
// which writing of the file it is, or why there is none.
type told struct {
	Line
	numbers []Number
	read    edition
	unread  string
}

func (l *life) note(t *told, file string, uid int) {
	content, read, err := readLine(filepath.Join(l.dir, file), uid)
	text := CleanLine(content)
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if reason != t.unread && reason != "" {
		l.job.logger.Warn("what the job says is not shown", "epoch", l.epoch.Load(), "err", err)
	}
	t.unread = reason
	if read == t.read && text == t.Text { // only written here
		return
	}
	t.read = read
	l.job.mu.Lock()
	defer l.job.mu.Unlock()
	t.Line, t.numbers = Line{}, ReadNumbers(content)
	if text != "" {
		t.Line = Line{Text: text, At: time.Now()}
	}
}
