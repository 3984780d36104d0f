package objects

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// loseAnswers is a proxy that ends the connection instead of giving the first answer to a POST with the parameter.
func loseAnswers(t *testing.T, to, parameter string) string {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	transport := http.DefaultTransport.(*http.Transport).Clone()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport: transport,
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodPost && r.Request.URL.Query().Has(parameter) {
				once.Do(func() { panic(http.ErrAbortHandler) })
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.URL
}

// plainS3 is a server of the kind that is older than checksums: it refuses them, or does not see them.
type plainS3 struct {
	refuse bool
	mu     sync.Mutex
	parts  map[string][]byte // by upload/number
	kept   map[string][]byte
	meta   map[string]string
	open   []string
}

func (p *plainS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	q := r.URL.Query()
	for h := range r.Header {
		if strings.HasPrefix(strings.ToLower(h), "x-amz-checksum") && p.refuse && r.Method != http.MethodHead {
			w.WriteHeader(http.StatusNotImplemented)
			fmt.Fprint(w, "<Error><Code>NotImplemented</Code></Error>")
			return
		}
	}
	if sum := md5.Sum(body); r.Header.Get("Content-Md5") != "" && r.Header.Get("Content-Md5") != base64.StdEncoding.EncodeToString(sum[:]) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, "<Error><Code>BadDigest</Code></Error>")
		return
	}
	p.answer(w, r, q, body)
}

func (p *plainS3) answer(w http.ResponseWriter, r *http.Request, q url.Values, body []byte) {
	key := r.URL.Path
	switch {
	case r.Method == http.MethodHead:
		data, ok := p.kept[key]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("X-Amz-Meta-Crc32c", p.meta[key])
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	case r.Method == http.MethodGet && q.Has("uploads"):
		fmt.Fprint(w, "<ListMultipartUploadsResult>")
		for _, u := range p.open {
			fmt.Fprintf(w, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", strings.TrimPrefix(key+"a/b/k", "/tiles/"), u)
		}
		fmt.Fprint(w, "</ListMultipartUploadsResult>")
	case r.Method == http.MethodGet:
		fmt.Fprint(w, "<ListPartsResult></ListPartsResult>")
	case r.Method == http.MethodPost && q.Has("uploads"):
		p.open = append(p.open, fmt.Sprint("u", len(p.open)))
		p.meta[key] = r.Header.Get("X-Amz-Meta-Crc32c")
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", p.open[len(p.open)-1])
	case r.Method == http.MethodPut && q.Has("partNumber"):
		p.parts[q.Get("uploadId")+"/"+q.Get("partNumber")] = body
		sum := md5.Sum(body)
		w.Header().Set("ETag", hex.EncodeToString(sum[:]))
	case r.Method == http.MethodPut:
		p.kept[key], p.meta[key] = body, r.Header.Get("X-Amz-Meta-Crc32c")
	case r.Method == http.MethodDelete:
		p.open = slices.DeleteFunc(p.open, func(id string) bool { return id == q.Get("uploadId") })
		w.WriteHeader(http.StatusNoContent)
	default:
		var whole []byte
		for n := 1; p.parts[fmt.Sprint(q.Get("uploadId"), "/", n)] != nil; n++ {
			whole = append(whole, p.parts[fmt.Sprint(q.Get("uploadId"), "/", n)]...)
		}
		p.kept[key] = whole
		fmt.Fprint(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
	}
}

func TestServersWithoutChecksums(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 2*minPart+9)
	for name, refuse := range map[string]bool{"refuses them": true, "does not see them": false} {
		t.Run(name, func(t *testing.T) {
			old := &plainS3{refuse: refuse, parts: map[string][]byte{}, kept: map[string][]byte{}, meta: map[string]string{}}
			server := httptest.NewServer(old)
			defer server.Close()
			store := s.open(func(c *S3Config) { c.Endpoint = server.URL })
			defer store.Close()
			done, err := store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
			if err != nil || !bytes.Equal(old.kept["/tiles/a/b/k"], noise("x", int(src.Size))) {
				t.Fatalf("%+v, %v", done, err)
			}
			if again, err := store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"}); err != nil || !again.Existed {
				t.Errorf("again: %+v, %v", again, err)
			}
			for _, data := range []string{"first", "first"} {
				if _, err := store.Put(t.Context(), "small", []byte(data)); err != nil || string(old.kept["/tiles/a/b/small"]) != data {
					t.Errorf("put: %v", err)
				}
			}
			strict := s.open(func(c *S3Config) { c.Endpoint, c.Checksums = server.URL, ChecksumsRequired })
			defer strict.Close()
			for what, err := range map[string]error{"copy": errOf(strict.Copy(t.Context(), s.from, Task{Source: src, Key: "m"})), "put": errOf(strict.Put(t.Context(), "n", []byte("x")))} {
				var f *Fault
				if !errors.As(err, &f) || !f.Permanent || !strings.Contains(f.Hint, "checksums: auto") {
					t.Errorf("%s, required: %v", what, err)
				}
			}
		})
	}
}

func errOf[T any](_ T, err error) error { return err }
