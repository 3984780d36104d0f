package dagrun

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// spoken is a server that gives every call the same answer.
type spoken struct {
	status int
	text   string
}

func (s spoken) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: s.status, Status: http.StatusText(s.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(s.text)), ContentLength: int64(len(s.text)), Request: r}, nil
}

// FuzzAnswers: whatever Airflow's REST API answers. A refusal keeps its status, no answer makes a login that is not duoflow's one of an
// epoch, and of the runs those of other pipelines are left out.
func FuzzAnswers(f *testing.F) {
	f.Add(200, `{"extra": "{\"epoch\": 7}", "dag_runs": [{"dag_run_id": "x", "state": "queued", "conf": {"pipeline": "lightning"}}, {"conf": {}}]}`)
	f.Add(404, `{"detail": "no"}`)
	f.Add(200, `{"dag_runs": [{"conf": null}], "task_instances": [{"map_index": -1}], "is_paused": true, "extra": "[]"}`)
	f.Add(409, strings.Repeat("x", 1000))
	f.Fuzz(func(t *testing.T, status int, text string) {
		if status < 200 || status > 499 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || !strings.HasPrefix(text, "{") {
			return // is asked again, for a minute; as what breaks off is
		}
		c, err := New(Config{Endpoint: "http://airflow:8080", DAG: "lightning", Patience: -1})
		if err != nil {
			t.Fatal(err)
		}
		c.token, c.http = "t", &http.Client{Transport: spoken{status, text}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		runs, err := c.Active(t.Context(), "lightning")
		if status >= 300 && !refused(err, status) && status != http.StatusUnauthorized {
			t.Fatalf("status %d became %v", status, err)
		}
		var r *Refusal
		if errors.As(err, &r) && len(r.Says) > 300 {
			t.Fatalf("%d bytes of an answer in an error", len(r.Says))
		}
		for _, run := range runs {
			if run.Conf.Pipeline != "lightning" {
				t.Fatalf("a run of pipeline %q", run.Conf.Pipeline)
			}
		}
		epoch, found, err := c.lent(t.Context(), "duoflow_etl")
		if (err != nil || !found) && epoch != 0 {
			t.Fatalf("epoch %d, found %v, beside %v", epoch, found, err)
		}
		if epoch != 0 && !strings.Contains(text, "extra") && !strings.Contains(strings.ToLower(text), "extra") && !strings.Contains(text, `\u`) {
			t.Fatalf("epoch %d of %q", epoch, text)
		}
		if _, err := c.FailedTasks(t.Context(), "x"); status == 200 && err != nil && !strings.Contains(err.Error(), "decode answer") {
			t.Fatal(err)
		}
		if paused, err := c.Paused(t.Context()); err != nil && paused {
			t.Fatalf("paused, beside %v", err)
		}
	})
}
