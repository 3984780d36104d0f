// Package dagruntest stands in for Airflow's REST API where a test wants to decide what a run comes to. How Airflow itself answers is
// tried on the real one, in scripts/lab.
package dagruntest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/duoflow/duoflow/etl/dagrun"
)

// DAG is the only one that the server knows, User and Password the only ones it lets in.
const (
	DAG      = "lightning"
	User     = "duoflow"
	Password = "correct horse"
)

// Server is the stand-in.
type Server struct {
	URL string
	// Do is what a run does, in a goroutine of its own, when it is triggered or cleared; it returns the tasks that failed.
	Do func(context.Context, dagrun.Run) []dagrun.Task

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu          sync.Mutex
	token       string
	broken      int // calls to answer with 503
	runs        []*run
	connections map[string]map[string]any
	calls       []string
}

type run struct {
	dagrun.Run
	failed []dagrun.Task
}

// Start starts a server that ends with the test; what its runs use has to end later than Stop.
func Start(t *testing.T) *Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{ctx: ctx, cancel: cancel, token: "first", connections: map[string]map[string]any{}}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = server.URL
	t.Cleanup(func() {
		s.Stop()
		server.Close()
	})
	return s
}

// Stop ends the runs and waits for them.
func (s *Server) Stop() {
	s.cancel()
	s.tasks.Wait()
}

// Expire makes all tokens that were given void.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token += "x"
}

// Break answers so many of the next calls with 503.
func (s *Server) Break(calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = calls
}

// Runs are all runs, in the order in which they were made.
func (s *Server) Runs() (all []dagrun.Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		all = append(all, r.Run)
	}
	return all
}

// Connection is what a connection holds, nil if there is none.
func (s *Server) Connection(name string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections[name]
}

// SetConnection puts something there.
func (s *Server) SetConnection(name string, holds map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections[name] = holds
}

// Calls counts those whose method and path begin so.
func (s *Server) Calls(beginning string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if strings.HasPrefix(c, beginning) {
			n++
		}
	}
	return n
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	var body map[string]any
	_ = json.NewDecoder(r.Body).Decode(&body) // there may be none
	rest, ok := strings.CutPrefix(r.URL.Path, "/api/v2")
	switch {
	case s.broken > 0:
		s.broken--
		answer(w, http.StatusServiceUnavailable, "not now")
	case r.URL.Path == "/auth/token" && body["username"] == User && body["password"] == Password:
		answer(w, http.StatusCreated, map[string]string{"access_token": s.token})
	case !ok || r.Header.Get("Authorization") != "Bearer "+s.token:
		answer(w, http.StatusUnauthorized, "who are you?")
	case strings.HasPrefix(rest, "/connections"):
		s.connection(w, r.Method, strings.TrimPrefix(strings.TrimPrefix(rest, "/connections"), "/"), body)
	default:
		s.dag(w, r, rest, body)
	}
}

func (s *Server) connection(w http.ResponseWriter, method, name string, body map[string]any) {
	switch _, found := s.connections[name]; {
	case method == http.MethodPost:
		s.connections[body["connection_id"].(string)] = body
		answer(w, http.StatusCreated, body)
	case !found:
		answer(w, http.StatusNotFound, "no such connection")
	case method == http.MethodPatch:
		s.connections[name] = body
		answer(w, http.StatusOK, body)
	default:
		answer(w, http.StatusOK, s.connections[name])
	}
}

func (s *Server) dag(w http.ResponseWriter, r *http.Request, path string, body map[string]any) {
	rest, ok := strings.CutPrefix(path, "/dags/"+DAG)
	parts := strings.Split(strings.TrimPrefix(rest, "/dagRuns"), "/") // "", id, what
	switch {
	case !ok:
		answer(w, http.StatusNotFound, "no such DAG")
	case rest == "":
		answer(w, http.StatusOK, map[string]any{"is_paused": false})
	case len(parts) == 1 && r.Method == http.MethodPost:
		s.trigger(w, body)
	case len(parts) == 1:
		s.list(w, r.URL.Query()["state"])
	default:
		s.one(w, parts[1:], body)
	}
}

func (s *Server) trigger(w http.ResponseWriter, body map[string]any) {
	id, _ := body["dag_run_id"].(string)
	if s.find(id) != nil {
		answer(w, http.StatusConflict, "it exists")
		return
	}
	made := &run{Run: dagrun.Run{ID: id, State: dagrun.Queued}}
	text, _ := json.Marshal(body["conf"])
	_ = json.Unmarshal(text, &made.Conf) // it was decoded from JSON just now
	s.runs = append(s.runs, made)
	s.begin(made)
	answer(w, http.StatusOK, made.Run)
}

func (s *Server) find(id string) *run {
	for _, r := range s.runs {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// begin lets a run do its work.
func (s *Server) begin(r *run) {
	r.State = dagrun.Running
	now := r.Run
	s.tasks.Go(func() {
		failed := s.Do(s.ctx, now)
		s.mu.Lock()
		defer s.mu.Unlock()
		r.State, r.failed = dagrun.Success, failed
		if len(failed) > 0 {
			r.State = dagrun.Failed
		}
	})
}

func (s *Server) list(w http.ResponseWriter, states []string) {
	all := []dagrun.Run{}
	for _, r := range s.runs {
		if slices.Contains(states, string(r.State)) {
			all = append(all, r.Run)
		}
	}
	answer(w, http.StatusOK, map[string]any{"dag_runs": all})
}

// one answers about a run; path is its id and what is asked.
func (s *Server) one(w http.ResponseWriter, path []string, body map[string]any) {
	r := s.find(path[0])
	switch {
	case r == nil:
		answer(w, http.StatusNotFound, "no such run")
	case len(path) == 1:
		answer(w, http.StatusOK, r.Run)
	case path[1] == "clear" && body["dry_run"] == false:
		s.begin(r)
		answer(w, http.StatusOK, r.Run)
	case path[1] == "taskInstances":
		answer(w, http.StatusOK, map[string]any{"task_instances": r.failed})
	default:
		answer(w, http.StatusUnprocessableEntity, "what?")
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever asked may have gone
}
