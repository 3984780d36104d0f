package nldn

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
)

// sniffed is how much of a file decides what it is.
const sniffed = 512

// text is the file's bytes as UTF-8.
type text struct {
	io.Reader
	comma      byte // what separates fields
	compressed bool
}

// open undoes compression and encoding. The name of a file says nothing; its first bytes do.
func open(r io.Reader, encoding string) (text, error) {
	name, comma, err := parseEncoding(encoding)
	if err != nil {
		return text{}, err
	}
	t := text{comma: comma}
	in := bufio.NewReaderSize(r, 128<<10)
	head, err := peek(in)
	if err != nil {
		return text{}, err
	}
	if bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		t.compressed = true
		z, err := gzip.NewReader(in)
		if err != nil {
			return text{}, damaged(err)
		}
		in = bufio.NewReaderSize(&gunzip{z}, sniffed)
		if head, err = peek(in); err != nil {
			return text{}, err
		}
	}
	if what := foreign(head); what != "" {
		return text{}, fmt.Errorf("%w: %s, not text", ErrEncoding, what)
	}
	t.Reader, err = decoder(in, head, name)
	return t, err
}

// peek reads ahead; a short file is not an error here.
func peek(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(sniffed)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head, err
}

// foreign names a kind of file that is no text.
func foreign(head []byte) string {
	for _, kind := range []struct{ magic, name string }{
		{"\x1f\x8b", "compressed twice"}, {"PK\x03\x04", "a zip archive"}, {"\x28\xb5\x2f\xfd", "compressed with zstd"},
		{"BZh", "compressed with bzip2"}, {"\xfd7zXZ", "compressed with xz"}, {"PAR1", "a Parquet file"}, {"Obj\x01", "an Avro file"},
	} {
		if bytes.HasPrefix(head, []byte(kind.magic)) {
			return kind.name
		}
	}
	return ""
}

// gunzip tells damage from failures of the reader below.
type gunzip struct{ z *gzip.Reader }

func (g *gunzip) Read(p []byte) (int, error) {
	n, err := g.z.Read(p)
	return n, damaged(err)
}

func damaged(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends in the middle", ErrDamaged)
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &corrupt):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// Names of encodings; each may carry tabSuffix.
const (
	utf8Name    = "utf-8"
	utf16Name   = "utf-16" // a byte order mark says which
	utf16leName = "utf-16le"
	utf16beName = "utf-16be"
	tabSuffix   = "+tab"
)

func parseEncoding(s string) (name string, comma byte, err error) {
	name, tabs := strings.CutSuffix(strings.ToLower(s), tabSuffix)
	comma = ','
	if tabs {
		comma = '\t'
	}
	switch name {
	case utf8Name, utf16Name, utf16leName, utf16beName:
		return name, comma, nil
	case "":
		if !tabs {
			return "", comma, nil
		}
	}
	return "", 0, fmt.Errorf("%w: %q is none of utf-8, utf-16, utf-16le, utf-16be, each also with +tab", ErrEncoding, s)
}

// decoder makes UTF-8 of what follows, or refuses what was not asked for.
func decoder(in io.Reader, head []byte, name string) (io.Reader, error) {
	found := guess(head)
	switch name {
	case "", utf8Name:
		if found != utf8Name {
			hint := found
			if bytes.IndexByte(head, '\t') >= 0 {
				hint += tabSuffix
			}
			return nil, fmt.Errorf("%w: the text looks like %s; if it is, set source.encoding to %s", ErrEncoding, found, hint)
		}
		return in, nil
	case utf16leName:
		return &wide{r: in, order: binary.LittleEndian}, nil
	case utf16beName:
		return &wide{r: in, order: binary.BigEndian}, nil
	}
	switch found { // utf-16
	case utf16leName:
		return &wide{r: in, order: binary.LittleEndian}, nil
	case utf16beName:
		return &wide{r: in, order: binary.BigEndian}, nil
	}
	return nil, fmt.Errorf("%w: no sign of utf-16", ErrEncoding)
}

// guess looks for a byte order mark, then for the zero bytes that every second byte of plain text is in UTF-16.
func guess(head []byte) string {
	if len(head) < 2 {
		return utf8Name
	}
	switch first := binary.BigEndian.Uint16(head); {
	case first == 0xfffe, first != 0 && first&0xff == 0:
		return utf16leName
	case first == 0xfeff, first != 0 && first>>8 == 0:
		return utf16beName
	}
	return utf8Name
}

// wide reads UTF-16 as UTF-8. What is no character becomes U+FFFD, which no rule lets pass.
type wide struct {
	r     io.Reader
	order binary.ByteOrder
	raw   [8 << 10]byte
	held  int    // bytes of raw that are not decoded yet
	ready []byte // decoded, not handed out yet
	err   error
}

func (w *wide) Read(p []byte) (int, error) {
	for len(w.ready) == 0 {
		if w.err != nil {
			return 0, w.err
		}
		n, err := w.r.Read(w.raw[w.held:])
		if n == 0 && err == nil {
			return 0, nil
		}
		w.held, w.err = w.held+n, err
		w.decode()
		if w.held > 0 && errors.Is(w.err, io.EOF) {
			w.err = fmt.Errorf("%w: utf-16 ends within a character", ErrEncoding)
		}
	}
	n := copy(p, w.ready)
	w.ready = w.ready[n:]
	return n, nil
}

// decode turns whole characters of raw into ready and keeps the rest.
func (w *wide) decode() {
	w.ready = w.ready[:0]
	at := 0
	for at+2 <= w.held {
		r := rune(w.order.Uint16(w.raw[at:]))
		size := 2
		if utf16.IsSurrogate(r) && r < 0xdc00 { // the first of two
			if at+4 > w.held {
				break
			}
			if both := utf16.DecodeRune(r, rune(w.order.Uint16(w.raw[at+2:]))); both != utf8.RuneError {
				r, size = both, 4
			}
		}
		w.ready = utf8.AppendRune(w.ready, r)
		at += size
	}
	w.held = copy(w.raw[:], w.raw[at:w.held])
}
