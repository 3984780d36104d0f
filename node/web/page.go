package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// page is parsed once; a mistake in it is found by any test that imports the package.
var page = template.Must(template.New("status").Parse(pageText))

// pagePolicy lets the page load nothing at all but its own style and script, and talk to this node only.
var pagePolicy = fmt.Sprintf("default-src 'none'; style-src '%s'; script-src '%s'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
	sum(pageStyle), sum(pageScript))

// sum names a text in a policy.
func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(s[:])
}

// pageData is what page.html shows.
type pageData struct {
	View
	Stale  string // why nothing below can be trusted; empty = fresh
	Style  template.CSS
	Script template.JS
}

func dataOf(v View) pageData {
	data := pageData{View: v, Style: template.CSS(pageStyle), Script: template.JS(pageScript)} // #nosec G203: both are in this package
	if v.stale() {
		data.Stale = staleReason(v)
	}
	return data
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	var text bytes.Buffer
	if err := page.Execute(&text, dataOf(s.cfg.View())); err != nil {
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
