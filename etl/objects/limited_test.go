package objects

import (
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// impatient answers nothing, and notes of each call whether there is a time at which it would be given up.
type impatient struct{ calls, endless []string }

func (i *impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	call := r.Method + " " + r.URL.RequestURI()
	i.calls = append(i.calls, call)
	if _, ends := r.Context().Deadline(); !ends {
		i.endless = append(i.endless, call)
	}
	return nil, errors.New("no answer")
}

// TestEveryCallEnds: a server that takes a call and never answers holds nobody for ever.
func TestEveryCallEnds(t *testing.T) {
	s, ctx := storeOf(t, &spoken{})
	server := &impatient{}
	s.client = s3.New(s.client.Options(), func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: server} })
	object := Object{Key: "k", Size: 10}
	u := &upload{store: s, object: object, parts: layout(object.Size, minPart), id: "u"}
	for name, call := range map[string]func() error{
		"head":     func() error { _, err := s.Head(ctx, "k"); return err },
		"has":      func() error { _, err := s.Has(ctx, "step", "2018", "hash"); return err },
		"put":      func() error { _, err := s.Put(ctx, "k", []byte("x")); return err },
		"read":     func() error { _, err := s.Read(ctx, "k", 10); return err },
		"get":      func() error { return s.Get(ctx, object, filepath.Join(t.TempDir(), "k")) },
		"list":     func() error { _, err := s.List(ctx, ""); return err },
		"delete":   func() error { return s.Delete(ctx, "k") },
		"uploads":  func() error { _, err := s.AbortStale(ctx, time.Hour); return err },
		"abort":    func() error { return s.abort(ctx, "k", "u") },
		"create":   func() error { return u.create(ctx) },
		"parts":    func() error { _, err := u.take(ctx); return err },
		"send":     func() error { return u.send(ctx, &u.parts[0], make([]byte, object.Size)) },
		"complete": func() error { return u.complete(ctx) },
	} {
		before := len(server.calls)
		if err := call(); err == nil || len(server.calls) == before {
			t.Errorf("%s: %v, %d calls", name, err, len(server.calls)-before)
		}
	}
	if len(server.endless) > 0 {
		t.Errorf("without an end: %q", server.endless)
	}
}
