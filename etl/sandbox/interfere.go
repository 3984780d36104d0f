package sandbox

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// jobCall is the pseudo call that is a BigQuery job's work.
const jobCall = "job"

func (f *Fault) matches(server Server, call, name string) bool {
	return f.Server == server && (f.Call == call || f.Call == "" && call != jobCall) && strings.Contains(name, f.Name)
}

func (f *Fault) message() string {
	if f.Message != "" {
		return f.Message
	}
	return fmt.Sprintf("%s (a fault planned in the sandbox)", f.Reason)
}

// before puts the faults of a server in front of it.
func (f *Faults) before(server Server, call func(*http.Request) string, log *slog.Logger, next http.Handler) http.Handler {
	if f == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := call(r)
		fault := f.hit(server, name, r.URL.Path)
		if fault == nil {
			next.ServeHTTP(w, r)
			return
		}
		log.Info("fault", "server", server, "call", name, "path", r.URL.Path, "status", fault.Status, "lose", fault.Lose, "reason", fault.Reason)
		fault.serve(w, r, next)
	})
}

// serve lets a call go wrong.
func (f *Fault) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case f.Status != 0:
		f.act()
		// The whole request first: an answer before its end reaches some clients as a broken pipe.
		_, _ = io.Copy(io.Discard, r.Body)
		f.refuse(w)
	case f.After > 0 && r.Method == http.MethodGet:
		next.ServeHTTP(&countedAnswer{ResponseWriter: w, fault: f, left: f.After}, r)
	case f.After > 0:
		body := &countedBody{ReadCloser: r.Body, fault: f, left: f.After}
		r.Body = body
		next.ServeHTTP(w, r)
	default:
		f.act()
		if f.Lose && f.Done {
			next.ServeHTTP(&nowhere{header: http.Header{}}, r)
		}
		if f.Lose {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	}
}

// nowhere takes an answer that nobody gets.
type nowhere struct{ header http.Header }

// Header is forgotten.
func (n *nowhere) Header() http.Header { return n.header }

// WriteHeader does nothing.
func (n *nowhere) WriteHeader(int) {}

// Write does nothing.
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (f *Fault) act() {
	if f.Do != nil {
		f.Do()
	}
}

var errLost = errors.New("connection lost, as planned")

// countedBody is a request's body that acts after some bytes.
type countedBody struct {
	io.ReadCloser
	fault *Fault
	left  int64 // negative: it has acted
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.left = -1
		b.fault.act()
	}
	if b.left < 0 && b.fault.Lose {
		return 0, errLost
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	return n, err
}

// countedAnswer is an answer that acts after some bytes of it.
type countedAnswer struct {
	http.ResponseWriter
	fault *Fault
	left  int64
}

// Unwrap hands out the writer below, to http.ResponseController.
func (a *countedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *countedAnswer) Write(p []byte) (int, error) {
	if a.left < 0 || int64(len(p)) < a.left {
		a.left -= int64(len(p))
		return a.ResponseWriter.Write(p)
	}
	n, err := a.ResponseWriter.Write(p[:a.left])
	if err != nil {
		return n, err
	}
	a.left = -1
	_ = http.NewResponseController(a.ResponseWriter).Flush() // the client has these bytes before anything happens
	a.fault.act()
	if a.fault.Lose {
		panic(http.ErrAbortHandler)
	}
	more, err := a.ResponseWriter.Write(p[n:])
	return n + more, err
}

// refuse answers in the words of the server.
func (f *Fault) refuse(w http.ResponseWriter) {
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
	}
	if f.Server != S3 {
		writeGoogleError(w, googleError{f.Status, f.Reason, f.message()})
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(f.Status)
	_ = xml.NewEncoder(w).Encode(struct { // the client may have gone
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		RequestID string `xml:"RequestId"`
	}{Code: f.Reason, Message: f.message(), RequestID: "sandbox"})
}

// googleError is how Google's REST APIs refuse.
type googleError struct {
	status          int
	reason, message string
}

func writeGoogleError(w http.ResponseWriter, e googleError) {
	one := map[string]string{"domain": "global", "reason": e.reason, "message": e.message}
	writeJSON(w, e.status, map[string]any{"error": map[string]any{"code": e.status, "message": e.message, "errors": []any{one}}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}

// buffers lends the proxy what it copies with; net/http's own are 32 KiB.
type buffers struct{ pool sync.Pool }

const bufferSize = 256 << 10

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}}
}

// Get lends a buffer.
func (b *buffers) Get() []byte { return *b.pool.Get().(*[]byte) }

// Put takes it back.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
