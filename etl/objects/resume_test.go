package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/duoflow/duoflow/etl/sandbox"
)

func TestCopyThatWasCancelledGoesOn(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 5*minPart+1)
	ctx, cancel := context.WithCancel(t.Context())
	s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "UploadPart", Skip: 2, Times: 1, After: 1 << 20, Do: cancel, Lose: true})
	var noted string
	begun := func(id string) error { noted = id; return nil }
	if _, err := s.store.Copy(ctx, s.from, Task{Source: src, Key: "k", Begun: begun}); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	listed, parts := s.count("ListMultipartUploads"), s.count("UploadPart")
	done, err := s.open().Copy(t.Context(), s.from, Task{Source: src, Key: "k", UploadID: noted})
	if err != nil || done.Kept != 2 || done.Parts != 6 || done.Sent != src.Size-2*minPart || parts() != 4 || listed() != 0 {
		t.Errorf("%+v, %v, %d parts sent, %d lists", done, err, parts(), listed())
	}
	s.arrived(done, src)
}

// A part in the middle is missing: it is read and sent alone.
func TestOnlyWhatIsMissingIsRead(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 5*minPart)
	u := &upload{store: s.store, object: Object{Key: "k", Size: src.Size, CRC32C: src.CRC32C, Source: src.URL()}, parts: layout(src.Size, minPart)}
	if err := u.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	u.parts = append(u.parts[:1:1], u.parts[2], u.parts[3]) // of 2 and 5 nothing is known
	if err := u.stream(t.Context(), content{object: u.object, open: s.opener(src)}, func(part) {}); err != nil {
		t.Fatal(err)
	}
	reads := s.faults.Add(sandbox.Fault{Server: sandbox.GCS, Call: "read"})
	done, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
	if err != nil || done.Kept != 3 || done.Sent != 2*minPart || reads() != 2 {
		t.Errorf("%+v, %v, %d reads", done, err, reads())
	}
	s.arrived(done, src)
}

// What an earlier try left is not the source's: the sum of the whole shows it, and all is sent anew.
func TestPartsThatAreNotTheSourcesAreFound(t *testing.T) {
	s := newScene(t)
	src, wrong := s.put("x", 3*minPart), s.put("y", 3*minPart)
	u := &upload{store: s.store, object: Object{Key: "k", Size: src.Size}, parts: layout(src.Size, minPart)[:2]}
	if err := u.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := u.stream(t.Context(), content{object: u.object, open: s.opener(wrong)}, func(part) {}); err != nil {
		t.Fatal(err)
	}
	done, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
	if err != nil || done.Kept != 0 || done.Sent != src.Size {
		t.Errorf("%+v, %v", done, err)
	}
	s.arrived(done, src)
	if n := s.left(); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

func TestKilledCopyGoesOn(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 6*minPart)
	task, err := json.Marshal(map[string]any{"S3": s.config(), "GCS": s.box.Endpoints().GCS, "Task": map[string]any{"Source": src, "Key": "k"}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), helperTask+"="+string(task))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	started := make(chan struct{})
	s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "UploadPart", Skip: 3, Times: 1, After: 2 << 20, Lose: true, Do: func() {
		<-started
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the helper ended with %v: %s", err, said.String())
	}
	parts := s.count("UploadPart")
	done, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
	if err != nil || done.Kept != 3 || parts() != 3 { // three were whole, of the fourth a part was lost
		t.Errorf("%+v, %v, %d parts sent", done, err, parts())
	}
	s.arrived(done, src)
}

func TestConnectionsAreLost(t *testing.T) {
	for name, fault := range map[string]sandbox.Fault{
		"within a part":        {Server: sandbox.S3, Call: "UploadPart", Skip: 1, Times: 2, After: 3 << 20, Lose: true},
		"before a part":        {Server: sandbox.S3, Call: "UploadPart", Skip: 1, Times: 1, Lose: true},
		"at the beginning":     {Server: sandbox.S3, Call: "CreateMultipartUpload", Times: 1, Lose: true},
		"at the end":           {Server: sandbox.S3, Call: "CompleteMultipartUpload", Times: 1, Lose: true},
		"while reading":        {Server: sandbox.GCS, Call: "read", Times: 2, After: minPart + 77, Lose: true},
		"before reading":       {Server: sandbox.GCS, Call: "read", Times: 1, Lose: true},
		"reading is refused":   {Server: sandbox.GCS, Call: "read", Times: 1, Status: http.StatusServiceUnavailable, Reason: "backendError"},
		"an internal error":    {Server: sandbox.S3, Call: "UploadPart", Times: 1, Status: http.StatusInternalServerError, Reason: "InternalError"},
		"looking is refused":   {Server: sandbox.S3, Call: "HeadObject", Times: 1, Status: http.StatusServiceUnavailable, Reason: "ServiceUnavailable"},
		"listing is throttled": {Server: sandbox.S3, Call: "ListMultipartUploads", Times: 1, Status: http.StatusTooManyRequests, Reason: "TooManyRequests"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			src := s.put("x", 3*minPart+5)
			hits := s.faults.Add(fault)
			done, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
			if err != nil || hits() != fault.Times || done.Sent != src.Size {
				t.Fatalf("%+v, %v, %d hits", done, err, hits())
			}
			s.arrived(done, src)
		})
	}
}

// The object was made, but the answer was lost. What the second try is told depends on the server; versitygw says yes again.
func TestAnswerOfTheEndIsLost(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 2*minPart)
	proxy := loseAnswers(t, s.box.Endpoints().S3, "uploadId")
	store := s.open(func(c *S3Config) { c.Endpoint = proxy })
	ends := s.count("CompleteMultipartUpload")
	done, err := store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
	if err != nil || ends() != 2 {
		t.Errorf("%+v, %v, %d", done, err, ends())
	}
	s.arrived(done, src)
}

func TestSlowDownIsHonoured(t *testing.T) {
	s := newScene(t)
	src := s.put("x", 2*minPart)
	hits := s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "UploadPart", Times: 2, Status: http.StatusServiceUnavailable, Reason: "SlowDown", RetryAfter: time.Second})
	began := time.Now()
	done, err := s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "k"})
	if err != nil || hits() != 2 || time.Since(began) < 2*time.Second {
		t.Errorf("%+v, %v, %d hits, %v", done, err, hits(), time.Since(began))
	}
	s.faults.Add(sandbox.Fault{Server: sandbox.S3, Call: "UploadPart", Status: http.StatusServiceUnavailable, Reason: "SlowDown", RetryAfter: time.Hour})
	_, err = s.store.Copy(t.Context(), s.from, Task{Source: src, Key: "m"})
	var f *Fault
	if !errors.As(err, &f) || f.Permanent || f.Wait != time.Hour {
		t.Errorf("a server that wants an hour: %v", err)
	}
	if n := s.left(); n != 1 {
		t.Errorf("%d uploads are left to go on with", n)
	}
}
