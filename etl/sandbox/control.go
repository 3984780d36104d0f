package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// ControlPath is where a sandbox with Control takes faults, from BigQuery's server: POST plans a PlannedFault, GET lists all with
// their hits in the order in which they were planned, DELETE drops all.
const ControlPath = "/sandbox/faults"

// PlannedFault is a Fault as JSON. What needs code (Do) is left out.
type PlannedFault struct {
	Server     Server `json:"server"` // s3, gcs or bigquery
	Call       string `json:"call,omitempty"`
	Name       string `json:"name,omitempty"`
	Skip       int    `json:"skip,omitempty"`
	Times      int    `json:"times,omitempty"`
	Status     int    `json:"status,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Message    string `json:"message,omitempty"`
	RetryAfter int    `json:"retry_after_s,omitempty"`
	After      int64  `json:"after,omitempty"` // bytes
	Lose       bool   `json:"lose,omitempty"`
	Done       bool   `json:"done,omitempty"`
	Delay      int64  `json:"delay_ms,omitempty"`
	Hits       int    `json:"hits"` // only in answers
}

func (p PlannedFault) fault() (Fault, error) {
	f := Fault{
		Server: p.Server, Call: p.Call, Name: p.Name, Skip: p.Skip, Times: p.Times, Status: p.Status, Reason: p.Reason, Message: p.Message,
		RetryAfter: time.Duration(p.RetryAfter) * time.Second, After: p.After, Lose: p.Lose, Done: p.Done, Delay: time.Duration(p.Delay) * time.Millisecond,
	}
	switch {
	case !slices.Contains([]Server{S3, GCS, BigQuery}, p.Server):
		return f, fmt.Errorf("server %q: want s3, gcs or bigquery", p.Server)
	case p.Status != 0 && (p.Status < 400 || p.Status > 599):
		return f, fmt.Errorf("status %d: want one of 400 to 599", p.Status)
	case min(p.Skip, p.Times, p.RetryAfter) < 0 || min(p.After, p.Delay) < 0:
		return f, errors.New("want no negative numbers")
	}
	return f, nil
}

// planned lists all plans.
func (f *Faults) planned() []PlannedFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := []PlannedFault{}
	for _, p := range f.plans {
		one := p.fault
		all = append(all, PlannedFault{
			Server: one.Server, Call: one.Call, Name: one.Name, Skip: one.Skip, Times: one.Times, Status: one.Status, Reason: one.Reason, Message: one.Message,
			RetryAfter: int(one.RetryAfter / time.Second), After: one.After, Lose: one.Lose, Done: one.Done, Delay: one.Delay.Milliseconds(), Hits: p.hits,
		})
	}
	return all
}

// control answers at ControlPath, and hands everything else on.
func (f *Faults) control(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != ControlPath {
			next.ServeHTTP(w, r)
			return
		}
		switch r.Method {
		case http.MethodGet:
		case http.MethodDelete:
			f.Clear()
		case http.MethodPost:
			var p PlannedFault
			in := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
			in.DisallowUnknownFields()
			err := in.Decode(&p)
			var fault Fault
			if err == nil {
				fault, err = p.fault()
			}
			if err != nil {
				writeGoogleError(w, googleError{http.StatusBadRequest, "invalid", err.Error()})
				return
			}
			f.Add(fault)
		default:
			writeGoogleError(w, googleError{http.StatusMethodNotAllowed, "invalid", "want GET, POST or DELETE"})
			return
		}
		writeJSON(w, http.StatusOK, f.planned())
	})
}
