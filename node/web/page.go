package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageText string

// page is parsed once; a mistake in it is found by any test that imports the package.
var page = template.Must(template.New("status").Parse(pageText))

// pagePolicy lets the page load nothing at all, its own style excepted.
const pagePolicy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// pageData is what page.html shows.
type pageData struct {
	View
	Stale string // why nothing below can be trusted; empty = fresh
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	data := pageData{View: s.cfg.View()}
	if data.stale() {
		data.Stale = staleReason(data.View)
	}
	var text bytes.Buffer
	if err := page.Execute(&text, data); err != nil {
		s.answer(w, r, verdict{status: http.StatusInternalServerError, body: problem{Reason: err.Error()}})
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.WriteHeader(http.StatusOK)
	if _, err := text.WriteTo(w); err != nil {
		s.log.Debug("page not sent", "peer", r.RemoteAddr, "err", err)
	}
}
