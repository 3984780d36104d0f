package web

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// verdict is the answer of one check.
type verdict struct {
	status int
	body   any
}

// jobBody is what /active and /standby say.
type jobBody struct {
	Node string `json:"node"`
	JobView
	Reason string `json:"reason,omitempty"` // why the status is not 200
}

// nodeBody is what /witness, /health and /ready say.
type nodeBody struct {
	View
	AgeMS int64 `json:"age_ms"` // age of what is said here, milliseconds
}

// problem is the body of an answer that says nothing about the node.
type problem struct {
	Reason string `json:"reason"`
}

// verdictOf maps a yes or no to the status that load balancers understand.
func verdictOf(ok bool, body any) verdict {
	if ok {
		return verdict{status: http.StatusOK, body: body}
	}
	return verdict{status: http.StatusServiceUnavailable, body: body}
}

func active(v View, job string) verdict {
	return jobVerdict(v, job, func(j JobView) string {
		if !j.Active {
			return "job is not active on this node"
		}
		return ""
	})
}

func standby(v View, job string) verdict {
	return jobVerdict(v, job, func(j JobView) string {
		switch {
		case j.Active:
			return "job is active on this node"
		case !v.Ready:
			return "node is not ready: " + v.Reason
		}
		return ""
	})
}

// jobVerdict is what /active and /standby share; refuse says why the answer is no, empty for yes.
func jobVerdict(v View, job string, refuse func(JobView) string) verdict {
	if v.Witness {
		return verdictOf(false, jobBody{Node: v.Node, JobView: JobView{Name: job}, Reason: "a witness runs no job"})
	}
	j, ok := v.job(job)
	if !ok {
		return verdict{status: http.StatusNotFound, body: problem{Reason: fmt.Sprintf("no job %q", job)}}
	}
	reason := refuse(j)
	if v.stale() {
		reason = staleReason(v)
	}
	return verdictOf(reason == "", jobBody{Node: v.Node, JobView: j, Reason: reason})
}

func witness(v View, _ string) verdict {
	return nodeVerdict(v, v.Witness)
}

func health(v View, _ string) verdict {
	return nodeVerdict(v, true)
}

func ready(v View, _ string) verdict {
	return nodeVerdict(v, v.Ready)
}

func nodeVerdict(v View, ok bool) verdict {
	if v.stale() {
		v.Reason = staleReason(v)
	}
	return verdictOf(ok && !v.stale(), nodeBody{View: v, AgeMS: v.Age.Milliseconds()})
}

func staleReason(v View) string {
	return fmt.Sprintf("the node's loop published nothing for %d ms", v.Age.Milliseconds())
}

// check turns a verdict on the View into a handler.
func (s *Server) check(decide func(View, string) verdict) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, decide(s.cfg.View(), r.URL.Query().Get("job")))
	}
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, v verdict) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(v.status)
	if err := json.NewEncoder(w).Encode(v.body); err != nil {
		s.log.Debug("answer not sent", "peer", r.RemoteAddr, "err", err)
	}
}
