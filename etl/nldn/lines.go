package nldn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// lines cuts a stream into lines without copying them.
type lines struct {
	r        io.Reader
	maxLine  int
	maxBytes int64
	buf      []byte
	at, end  int   // what of buf is not handed out yet
	read     int64 // bytes
	number   int64 // of the last line handed out, from 1
	done     bool
}

func newLines(r io.Reader, maxLine int, maxBytes int64) *lines {
	return &lines{r: r, maxLine: maxLine, maxBytes: maxBytes, buf: make([]byte, max(256<<10, 2*maxLine+2))}
}

// next is the next line without its end, valid until the next call; io.EOF after the last. The context is looked at when
// there is something to wait for.
func (l *lines) next(ctx context.Context) ([]byte, error) {
	for {
		rest := l.buf[l.at:l.end]
		n := bytes.IndexByte(rest, '\n')
		if n >= 0 {
			l.at += n + 1
		} else if l.done && len(rest) > 0 {
			n = len(rest)
			l.at = l.end
		}
		if n > l.maxLine || n < 0 && len(rest) > l.maxLine {
			return nil, fmt.Errorf("%w: line %d is longer than %d bytes", ErrLimit, l.number+1, l.maxLine)
		}
		if n >= 0 {
			l.number++
			if n > 0 && rest[n-1] == '\r' {
				n--
			}
			return rest[:n], nil
		}
		if l.done {
			return nil, io.EOF
		}
		if err := l.fill(ctx); err != nil {
			return nil, err
		}
	}
}

// fill reads more behind the beginning of a line.
func (l *lines) fill(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.end = copy(l.buf, l.buf[l.at:l.end])
	l.at = 0
	for range 100 { // as bufio: a reader that gives nothing so often is broken
		n, err := l.r.Read(l.buf[l.end:])
		l.end, l.read = l.end+n, l.read+int64(n)
		if l.read > l.maxBytes {
			return fmt.Errorf("%w: more than %d bytes of text", ErrLimit, l.maxBytes)
		}
		if errors.Is(err, io.EOF) {
			l.done = true
			return nil
		}
		if err != nil || n > 0 {
			return err
		}
	}
	return io.ErrNoProgress
}
