package web

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// twoJobs is a healthy node on which the first job is active and the second is not.
func twoJobs() View {
	return View{
		Node: "a", Quorum: true, Ready: true, Leader: "t",
		Jobs: []JobView{
			{Name: "scheduler", State: "active", Active: true, Epoch: 7, Holder: "a"},
			{Name: "etl", State: "standby", Epoch: 3, Holder: "b"},
		},
	}
}

func newServer(t *testing.T, view func() View) *Server {
	t.Helper()
	s, err := New(Config{Listen: "127.0.0.1:0", View: view, Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(s http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestChecks(t *testing.T) {
	with := func(change func(*View)) View {
		v := twoJobs()
		change(&v)
		return v
	}
	unready := with(func(v *View) { v.Ready, v.Reason = false, "metastore not reached" })
	stale := with(func(v *View) { v.Age = staleAfter + time.Millisecond })
	fresh := with(func(v *View) { v.Age = staleAfter })
	wit := View{Node: "t", Witness: true, Quorum: true, Ready: true, Leader: "t"}
	cases := []struct {
		name, path string
		view       View
		status     int
		says       string
	}{
		{"active by default job", "/active", twoJobs(), 200, `"job":"scheduler","state":"active","active":true,"epoch":7,"holder":"a"`},
		{"active by name", "/active?job=scheduler", twoJobs(), 200, `"node":"a"`},
		{"other job not active", "/active?job=etl", twoJobs(), 503, "not active on this node"},
		{"unknown job", "/active?job=nope", twoJobs(), 404, "nope"},
		{"no job at all", "/active", View{Node: "a"}, 404, "reason"},
		{"active without quorum stays active", "/active", with(func(v *View) { v.Quorum, v.Leader = false, "" }), 200, ""},
		{"active is not ready's business", "/active", unready, 200, ""},
		{"stale is not active", "/active", stale, 503, "published nothing for 2001 ms"},
		{"limit of stale", "/active", fresh, 200, ""},
		{"witness is never active", "/active", wit, 503, "witness"},
		{"a witness with the job would still say no", "/active", with(func(v *View) { v.Witness = true }), 503, "witness"},
		{"active is not standby", "/standby", twoJobs(), 503, "active on this node"},
		{"standby", "/standby?job=etl", twoJobs(), 200, `"epoch":3,"holder":"b"`},
		{"what the job says where it runs", "/standby?job=etl", with(func(v *View) { v.Jobs[1].Status, v.Jobs[1].StatusAgeMS = "41 %", 1240 }),
			200, `"status":"41 %","status_age_ms":1240`},
		{"standby has to be ready", "/standby?job=etl", unready, 503, "metastore not reached"},
		{"stale is not standby", "/standby?job=etl", stale, 503, "published nothing"},
		{"witness is no standby", "/standby", wit, 503, "witness"},
		{"witness", "/witness", wit, 200, `"witness":true`},
		{"not witness", "/witness", twoJobs(), 503, `"witness":false`},
		{"health", "/health", unready, 200, `"age_ms":0`},
		{"hung loop", "/health", stale, 503, "published nothing"},
		{"ready", "/ready", twoJobs(), 200, `"ready":true,"leader":"t"`},
		{"witness ready", "/ready", wit, 200, ""},
		{"not ready", "/ready", unready, 503, "metastore not reached"},
		{"stale is not ready", "/ready", stale, 503, "published nothing"},
		{"unknown path", "/nope", twoJobs(), 404, "no such page"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, func() View { return c.view })
			get := ask(s, http.MethodGet, c.path)
			if get.Code != c.status || !strings.Contains(get.Body.String(), c.says) {
				t.Errorf("GET %s: %d %s", c.path, get.Code, get.Body)
			}
			if !json.Valid(get.Body.Bytes()) || get.Header().Get("Content-Type") != "application/json" {
				t.Errorf("not JSON: %s", get.Body)
			}
			if get.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("may be cached: %v", get.Header())
			}
			options := ask(s, http.MethodOptions, c.path)
			if options.Code != c.status || options.Body.Len() > 0 || options.Header().Get("Allow") == "" {
				t.Errorf("OPTIONS: %d %s %v", options.Code, options.Body, options.Header())
			}
		})
	}
}

func TestOtherMethodsAreRefused(t *testing.T) {
	s := newServer(t, twoJobs)
	for _, path := range []string{"/", "/active", "/metrics", "/nope"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodTrace} {
			w := ask(s, method, path)
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s %s: %d %v %s", method, path, w.Code, w.Header(), w.Body)
			}
		}
	}
}

func TestMetricsServesTheRegistry(t *testing.T) {
	registry := prometheus.NewRegistry()
	epoch := prometheus.NewGauge(prometheus.GaugeOpts{Name: "duoflow_job_epoch", Help: "Epoch."})
	registry.MustRegister(epoch)
	epoch.Set(7)
	s, err := New(Config{Listen: "127.0.0.1:0", View: twoJobs, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	w := ask(s, http.MethodGet, "/metrics")
	if w.Code != 200 || !strings.Contains(w.Body.String(), "duoflow_job_epoch 7") || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := ask(s, http.MethodOptions, "/metrics"); w.Code != 200 || w.Body.Len() > 0 {
		t.Errorf("OPTIONS: %d %s", w.Code, w.Body)
	}
}

func TestPageShowsTheNodeAndAsksNobodyElse(t *testing.T) {
	v := twoJobs()
	v.Ready, v.Reason, v.Age = false, `<script>alert("x")</script>`, 3*time.Second
	v.Jobs[1].Unsafe = "fence: lease-only"
	v.Jobs[0].Detection = "raised from 300ms to 621ms"
	v.Jobs[1].Status, v.Jobs[1].StatusAgeMS = "3 of 12 chunks <b>", 12_400
	v.Jobs[1].Schedule = "next slot tomorrow"
	v.Nodes = []NodeView{{Name: "b", Role: "scheduler host", HeardMS: 12_700, Trouble: "disk <full>"}}
	v.Now = time.UnixMilli(1_000_000)
	v.Moves = []MoveView{{Job: "scheduler", Epoch: 7, Kind: "grant", Node: "a", Reason: "gone: <b>", At: v.Now.Add(-time.Minute)}}
	w := ask(newServer(t, func() View { return v }), http.MethodGet, "/")
	body := w.Body.String()
	for _, want := range []string{"scheduler", "etl", "<dd>7</dd>", "UNSAFE", "lease-only", "to 621ms", "on b: 3 of 12 chunks &lt;b&gt; (12s ago)", "Schedule of etl: next slot tomorrow", "Not current", "&lt;script&gt;",
		"12s ago", "disk &lt;full&gt;", "gone: &lt;b&gt;", "1970-01-01 00:15:40.000"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	for _, bad := range []string{"<script>a", "http://", "https://", "src=", "@import", "url("} {
		if strings.Contains(body, bad) {
			t.Errorf("%q is on the page", bad)
		}
	}
	h := w.Header()
	if w.Code != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/html") || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%d %v", w.Code, h)
	}
}

func TestNewRefusesPlainHTTPBeyondLoopback(t *testing.T) {
	for _, listen := range []string{"10.0.0.1:7403", "0.0.0.0:7403", "[::]:7403", ":7403", "localhost:7403", "host:7403", "", "127.0.0.1"} {
		_, err := New(Config{Listen: listen, View: twoJobs, Registry: prometheus.NewRegistry()})
		if err == nil || !strings.Contains(err.Error(), "listen") {
			t.Errorf("%q without tls: %v", listen, err)
		}
	}
	for _, listen := range []string{"127.0.0.1:0", "127.9.9.9:1", "[::1]:7403", "[::ffff:127.0.0.1]:7403"} {
		if _, err := New(Config{Listen: listen, View: twoJobs, Registry: prometheus.NewRegistry()}); err != nil {
			t.Errorf("%q: %v", listen, err)
		}
	}
	_, err := New(Config{Listen: "nowhere"})
	for _, want := range []string{"listen", "view", "registry"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

// run starts s and returns when it listens; the test's end stops it.
func run(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	deadline := time.Now().Add(10 * time.Second)
	for strings.HasSuffix(s.Addr(), ":0") {
		if time.Now().After(deadline) {
			t.Fatal("does not listen")
		}
		time.Sleep(time.Millisecond)
	}
}

// fetch asks over a connection of its own.
func fetch(t *testing.T, client *http.Client, method, url string) (int, string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), nil
}

func TestRealListener(t *testing.T) {
	s := newServer(t, twoJobs)
	if s.Addr() != "127.0.0.1:0" {
		t.Errorf("New has begun to listen: %s", s.Addr())
	}
	run(t, s)
	base := "http://" + s.Addr()
	for method, wantBody := range map[string]bool{"GET": true, "HEAD": false, "OPTIONS": false} {
		status, body, err := fetch(t, http.DefaultClient, method, base+"/active")
		if err != nil || status != 200 || (body != "") != wantBody {
			t.Errorf("%s: %d %q %v", method, status, body, err)
		}
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("second Run: %v", err)
	}
	other, err := New(Config{Listen: s.Addr(), View: twoJobs, Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "listen for http") {
		t.Errorf("Run on a taken address: %v", err)
	}
}

func TestRunEndsWhileAClientHangs(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := newServer(t, func() View {
		close(entered)
		<-release
		return twoJobs()
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	deadline := time.Now().Add(10 * time.Second)
	for strings.HasSuffix(s.Addr(), ":0") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		r, err := http.NewRequest(http.MethodGet, "http://"+s.Addr()+"/health", nil)
		if err != nil {
			t.Error(err)
			return
		}
		r.Close = true
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
			t.Error("the hanging request was answered")
		}
	}()
	<-entered
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Run does not end")
	}
	<-asked
	close(release)
}
