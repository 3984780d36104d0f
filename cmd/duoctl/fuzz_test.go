package main

import (
	"errors"
	"path/filepath"
	"testing"
)

// FuzzContexts: a contexts file gives the settings of the context that was asked for, with paths that do not depend on where duoctl
// runs, or a refusal that names the file and says what to do.
func FuzzContexts(f *testing.F) {
	f.Add([]byte("current: prod\ncontexts:\n  prod: {endpoints: [a:7402, b:7402], ca: ca.pem, cert: c.pem, key: /k.pem}\n  lab: {}\n"), "")
	f.Add([]byte("contexts: {one: {endpoint: x}}\n"), "two")
	f.Add([]byte("a: &a [*a]\ncontexts: {<<: *a}\n"), "")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		s, err := pickContext("/etc/duoctl.yaml", text, name)
		if err != nil {
			var why *failure
			if !errors.As(err, &why) || why.code != exitUsage || why.mend == "" || len(s.Endpoints) > 0 || s.CA+s.Cert+s.Key != "" {
				t.Fatalf("%+v beside %v", s, err)
			}
			return
		}
		for _, file := range []string{s.CA, s.Cert, s.Key} {
			if file != "" && !filepath.IsAbs(file) {
				t.Fatalf("path %q", file)
			}
		}
	})
}
