package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	eventsEvery = 500 * time.Millisecond // between two looks at the View
	// quietMost is how long a stream may have nothing to say: then it says so. The page takes three of these for a node that is gone,
	// and a reader that has gone is noticed.
	quietMost = 2 * time.Second
	// maxStreams is how many pages may be live; the next ones load, and say that they are not.
	maxStreams = 32
)

// events sends the page's state whenever it has changed, as server-sent events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		return
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		s.answer(w, r, verdict{status: http.StatusServiceUnavailable, body: problem{Reason: "too many live pages"}})
		return
	}
	defer s.streams.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	stream := &stream{w: w, control: http.NewResponseController(w)}
	ticker := time.NewTicker(eventsEvery)
	defer ticker.Stop()
	for looked := time.Now(); ; {
		if time.Since(looked) > lookAgain {
			if s.stillGood(r) != nil {
				return
			}
			looked = time.Now()
		}
		if err := stream.show(s.cfg.View()); err != nil {
			s.log.Debug("event not sent", "peer", r.RemoteAddr, "err", err)
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.over:
			return
		case <-ticker.C:
		}
	}
}

// stream is one page that is kept up to date.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	shown   []byte
	spoke   time.Time
}

// show sends a View if it looks different from the one before.
func (s *stream) show(v View) error {
	var text bytes.Buffer
	if err := page.ExecuteTemplate(&text, "main", dataOf(v)); err != nil {
		return err
	}
	line := "event: beat\ndata: {}\n\n"
	if !bytes.Equal(text.Bytes(), s.shown) {
		data, err := json.Marshal(text.String())
		if err != nil {
			return err
		}
		line = fmt.Sprintf("data: %s\n\n", data)
		s.shown = bytes.Clone(text.Bytes())
	} else if time.Since(s.spoke) < quietMost {
		return nil
	}
	s.spoke = time.Now()
	if err := s.control.SetWriteDeadline(s.spoke.Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(line)); err != nil {
		return err
	}
	return s.control.Flush()
}
