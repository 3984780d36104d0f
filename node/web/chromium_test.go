//go:build chromium

package web

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is for what is stuck, on a machine with much other work too.
const patience = 2 * time.Minute

// chromium is a browser that is spoken to by the DevTools protocol over a pipe.
type chromium struct {
	t       *testing.T
	in      io.Writer
	session string

	mu      sync.Mutex
	last    int
	waiting map[int]chan reply
	asked   []string // the addresses of all requests
	said    []string // exceptions, and what the browser complains about
}

type reply struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

// browse starts Chromium with one empty page; both end with the test.
func browse(t *testing.T) *chromium {
	t.Helper()
	theirIn, in, err := os.Pipe()
	fatal(t, err)
	out, theirOut, err := os.Pipe()
	fatal(t, err)
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir())
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	fatal(t, cmd.Start())
	theirIn.Close()
	theirOut.Close()
	c := &chromium{t: t, in: in, waiting: map[int]chan reply{}}
	listens := make(chan struct{})
	go func() { defer close(listens); c.listen(out) }()
	t.Cleanup(func() {
		in.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its children, which write into its folder, as well
		_ = cmd.Wait()
		out.Close()
		<-listens
		if t.Failed() {
			t.Logf("chromium: %s", &complaints)
		}
	})
	var target struct{ TargetID string }
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	c.session = session.SessionID
	for _, domain := range []string{"Page", "Network", "Runtime", "Log"} {
		c.call(domain+".enable", nil, nil)
	}
	return c
}

// listen hands out what the browser says until it ends.
func (c *chromium) listen(out io.Reader) {
	lines := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := lines.ReadBytes(0)
		if err != nil {
			return
		}
		var m reply
		if err := json.Unmarshal(line[:len(line)-1], &m); err != nil {
			c.t.Errorf("the browser speaks no JSON: %s", line)
			return
		}
		c.take(m)
	}
}

func (c *chromium) take(m reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case m.ID != 0:
		c.waiting[m.ID] <- m
		delete(c.waiting, m.ID)
	case m.Method == "Network.requestWillBeSent":
		var p struct{ Request struct{ URL string } }
		_ = json.Unmarshal(m.Params, &p)
		c.asked = append(c.asked, p.Request.URL)
	case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded":
		c.said = append(c.said, string(m.Params))
	}
}

// call asks the browser for something and decodes the answer.
func (c *chromium) call(method string, params, result any) {
	c.t.Helper()
	c.mu.Lock()
	c.last++
	id, answer := c.last, make(chan reply, 1)
	c.waiting[id] = answer
	c.mu.Unlock()
	request := map[string]any{"id": id, "method": method}
	if params != nil {
		request["params"] = params
	}
	if c.session != "" {
		request["sessionId"] = c.session
	}
	text, err := json.Marshal(request)
	fatal(c.t, err)
	_, err = c.in.Write(append(text, 0))
	fatal(c.t, err)
	select {
	case m := <-answer:
		if m.Error != nil {
			c.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			fatal(c.t, json.Unmarshal(m.Result, result))
		}
	case <-time.After(patience):
		c.t.Fatalf("%s: no answer", method)
	}
}

// eval runs a script in the page and decodes what it comes to.
func (c *chromium) eval(script string, into any) {
	c.t.Helper()
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	c.call("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &out)
	if out.ExceptionDetails != nil {
		c.t.Fatalf("%s: %s", script, out.ExceptionDetails)
	}
	fatal(c.t, json.Unmarshal(out.Result.Value, into))
}

// until waits for a script to come to true.
func (c *chromium) until(script string) {
	c.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		var good bool
		if c.eval("Boolean("+script+")", &good); good {
			return
		}
		if time.Now().After(limit) {
			var text string
			c.eval("document.body.innerText", &text)
			c.t.Fatalf("never true: %s\n%s", script, text)
		}
	}
}

// shows waits until the page says something.
func (c *chromium) shows(text string) {
	c.t.Helper()
	c.until(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// open goes to an address and waits until the page is live.
func (c *chromium) open(url string) {
	c.t.Helper()
	c.call("Page.navigate", map[string]any{"url": url}, nil)
	c.until(`document.getElementById("live") && document.getElementById("live").textContent === "Live"`)
}

// look sets what the page is looked at with.
func (c *chromium) look(width int, scheme string) {
	c.t.Helper()
	c.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}, nil)
	c.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// press strikes a key.
func (c *chromium) press(key string, code int) {
	c.t.Helper()
	for _, kind := range []string{"rawKeyDown", "keyUp"} {
		event := map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
		if key == "Enter" && kind == "rawKeyDown" {
			event["type"], event["text"] = "keyDown", "\r"
		}
		c.call("Input.dispatchKeyEvent", event, nil)
	}
}

// picture leaves a screenshot of the whole page where DUOFLOW_PICTURES says, if it does.
func (c *chromium) picture(name string) {
	c.t.Helper()
	folder := os.Getenv("DUOFLOW_PICTURES")
	if folder == "" {
		return
	}
	var shot struct{ Data string }
	c.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	fatal(c.t, err)
	fatal(c.t, os.MkdirAll(folder, 0o755))
	fatal(c.t, os.WriteFile(filepath.Join(folder, name+".png"), png, 0o600))
}

// elsewhere are the requests that did not go to base.
func (c *chromium) elsewhere(base string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, url := range c.asked {
		if url != base+"/" && url != base+"/events" {
			out = append(out, url)
		}
	}
	return out
}

// complaints are what the browser did not like.
func (c *chromium) complaints() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.said, "\n")
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
