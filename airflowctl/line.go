package airflowctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// LineVariable names, in the environment of a command, the file whose first line is what the command says of itself. It
// is in the directory of the life, so it goes with the epoch.
const LineVariable = "DUOFLOW_STATUS_FILE"

const (
	// lineFile is that file's name in the directory of a life.
	lineFile = "status"
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

// readLine reads a job's file; "" when there is none. uid is who has to own it, -1 for anyone. The job may have put anything
// at that path, and we may be root: a link is not followed, and nothing but a plain file of its own is read; a pipe or
// a file on which somebody has a lease is not waited for.
func readLine(path string, uid int) (string, edition, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return "", edition{}, nil
	case err != nil:
		return "", edition{}, fmt.Errorf("open status file: %w", err)
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	var stat unix.Stat_t
	switch err := unix.Fstat(fd, &stat); {
	case err != nil:
		return "", edition{}, fmt.Errorf("stat status file: %w", err)
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", edition{}, errors.New("status file is not a plain file")
	case uid >= 0 && int(stat.Uid) != uid:
		return "", edition{}, fmt.Errorf("status file belongs to user %d, not to the job's", stat.Uid)
	}
	var text [lineRead]byte
	n, err := unix.Read(fd, text[:])
	if err != nil {
		return "", edition{}, fmt.Errorf("read status file: %w", err)
	}
	return CleanLine(text[:n]), edition{stat.Ino, stat.Mtim, stat.Size}, nil
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
			l.noteLine(readLine(l.dir+"/"+lineFile, uid))
		}
	}
}

// noteLine keeps what was read. Only readLines calls it.
func (l *life) noteLine(text string, read edition, err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if reason != l.unread && reason != "" {
		l.job.logger.Warn("job's status is not shown", "epoch", l.epoch.Load(), "err", err)
	}
	l.unread = reason
	if read == l.read && text == l.line.Text { // only written here
		return
	}
	l.read = read
	l.job.mu.Lock()
	defer l.job.mu.Unlock()
	l.line = Line{}
	if text != "" {
		l.line = Line{Text: text, At: time.Now()}
	}
}
