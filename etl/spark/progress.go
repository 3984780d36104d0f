package spark

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// pages is Spark's REST API, which listens on loopback and asks nobody who they are: it can be looked at by everyone on this
// machine, and shows no secret.
type pages struct {
	base   string
	client *http.Client
}

func newPages(r ready) (pages, error) {
	at, err := url.Parse(r.UI)
	if err != nil || at.Port() == "" || r.Application == "" {
		return pages{}, fmt.Errorf("%w: it does not say where its REST API is (%q)", ErrMissing, r.UI)
	}
	// Spark names the driver's address, but listens on SPARK_LOCAL_IP.
	base := "http://" + net.JoinHostPort("127.0.0.1", at.Port()) + "/api/v1/applications/" + url.PathEscape(r.Application)
	return pages{base: base, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

func (p pages) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
	if err != nil {
		return fmt.Errorf("ask spark's api: %w", err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask spark's api: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask spark's api: %s", resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("ask spark's api: %w", err)
	}
	return nil
}

// sparkJob is a job as /jobs has it.
type sparkJob struct {
	JobGroup          string `json:"jobGroup"`
	Description       string `json:"description"`
	NumTasks          int    `json:"numTasks"`
	NumActiveTasks    int    `json:"numActiveTasks"`
	NumCompletedTasks int    `json:"numCompletedTasks"`
	NumSkippedTasks   int    `json:"numSkippedTasks"`
	NumFailedTasks    int    `json:"numFailedTasks"`
}

// far is how far one request is.
type far struct {
	query                       string // the newest
	tasks, done, active, failed int
}

func farOf(jobs []sparkJob, group string) far {
	var f far
	for _, j := range jobs { // newest first
		if j.JobGroup != group {
			continue
		}
		if f.query == "" {
			f.query = j.Description
		}
		f.tasks += j.NumTasks - j.NumSkippedTasks
		f.done += j.NumCompletedTasks
		f.active += j.NumActiveTasks
		f.failed += j.NumFailedTasks
	}
	return f
}

func (f far) String() string {
	text := fmt.Sprintf("%s, %d of %d tasks", f.query, f.done, f.tasks)
	if f.failed > 0 {
		text += fmt.Sprintf(", %d tried again", f.failed)
	}
	return text
}

// watch follows one request. A Spark whose API does not answer is none that does not work: only a cluster that says that
// it has nothing to do for a long time ends the wait.
type watch struct {
	session *session
	group   string
	note    func(string)
	last    far
	since   time.Time // of the last change
}

func newWatch(s *session, id int, note func(string)) *watch {
	if note == nil {
		note = func(string) {}
	}
	return &watch{session: s, group: fmt.Sprintf("duoetl-%d", id), note: note, since: time.Now()}
}

// look asks once.
func (w *watch) look(ctx context.Context) error {
	var jobs []sparkJob
	if err := w.session.pages.get(ctx, "/jobs", &jobs); err != nil {
		w.session.config.Logger.Debug("no progress to be had", "err", err)
		return nil
	}
	now := farOf(jobs, w.group)
	if now.query != "" {
		w.note("spark: " + now.String())
	}
	if now != w.last || now.active > 0 || now.tasks == now.done { // between two jobs the driver itself is at work
		w.last, w.since = now, time.Now()
		return nil
	}
	if time.Since(w.since) < w.session.config.Wait {
		return nil
	}
	return fmt.Errorf("%w: nobody has taken a task for %v at %s. Is a worker registered there, and has it %d MiB of memory and a processor free? (engine.spark.wait)",
		ErrStalled, w.session.config.Wait, w.session.config.Master, w.session.config.Memory>>20)
}
