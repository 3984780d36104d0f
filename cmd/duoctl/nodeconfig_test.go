package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigShowAndCheck(t *testing.T) {
	dir := makeCertificates(t)
	ctl := operator(dir, serve(t, newFakeCluster(), dir))
	if got := ctl.run(t, "config", "show"); got.code != exitOK || got.out != "cluster: prod\ndetection: lan\n" {
		t.Errorf("%d %q %s", got.code, got.out, got.err)
	}
	file := filepath.Join(t.TempDir(), "node.yaml")
	for _, test := range []struct {
		text string
		code int
		want string
	}{
		{"cluster: prod\ndetection: lan\n", exitOK, "nothing differs, secrets apart"},
		{"cluster: prod\ndetection: wan\n", exitOK, "-detection: lan\n+detection: wan\n"},
		{"cluster: prod\ndetection: quick\n", exitFailed, `detection: "quick"; want fast, lan or wan`},
	} {
		if err := os.WriteFile(file, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := ctl.run(t, "config", "check", file); got.code != test.code || !strings.Contains(got.out, test.want) {
			t.Errorf("%q: %d %s%s", test.text, got.code, got.out, got.err)
		}
	}
	ctl.run(t, "config", "check", file+".missing").want(t, exitFailed, "no such file")
}

// TestConfigEdit: what is well is put in place whole, with the file's mode; a mistake changes nothing and is kept.
func TestConfigEdit(t *testing.T) {
	dir := makeCertificates(t)
	ctl := operator(dir, serve(t, newFakeCluster(), dir))
	file := filepath.Join(t.TempDir(), "node.yaml")
	for _, test := range []struct {
		editor, answer string
		code           int
		want           string
		put            bool
	}{
		{"sed -i s/lan/wan/", "y\n", exitOK, "+detection: wan", true},
		{"sed -i s/lan/wan/", "n\n", exitFailed, "what you made is in", false},
		{"sed -i s/lan/quick/", "y\n", exitFailed, "what you made is in", false},
		{"true", "y\n", exitFailed, "nothing was edited", false},
		{"false", "y\n", exitFailed, "run editor false", false},
	} {
		if err := os.WriteFile(file, []byte("cluster: prod\ndetection: lan\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		ctl.env["EDITOR"] = test.editor
		ctl.terminal, ctl.input = true, test.answer
		got := ctl.run(t, "config", "edit", file)
		text, err := os.ReadFile(file)
		if err != nil || got.code != test.code || !strings.Contains(got.out+got.err, test.want) || strings.Contains(string(text), "wan") != test.put {
			t.Errorf("%+v: %d %s%s\n%s", test, got.code, got.out, got.err, text)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

// TestConfigEditDry: everything but the last step.
func TestConfigEditDry(t *testing.T) {
	dir := makeCertificates(t)
	ctl := operator(dir, serve(t, newFakeCluster(), dir))
	file := filepath.Join(t.TempDir(), "node.yaml")
	const before = "cluster: prod\ndetection: lan\n"
	if err := os.WriteFile(file, []byte(before), 0o640); err != nil {
		t.Fatal(err)
	}
	ctl.env["EDITOR"] = "sed -i s/lan/wan/"
	got := ctl.run(t, "config", "edit", file, "--dry-run")
	got.want(t, exitOK, "+detection: wan")
	if text, err := os.ReadFile(file); err != nil || string(text) != before || !strings.Contains(got.out, "nothing is put in place") {
		t.Errorf("%s\n%s, %v", got.out, text, err)
	}
}

// TestConfigEditBehindALink: the file itself is replaced, and what was made is not lost when no node answers.
func TestConfigEditBehindALink(t *testing.T) {
	dir := makeCertificates(t)
	folder := t.TempDir()
	file, link := filepath.Join(folder, "node-a.yaml"), filepath.Join(folder, "node.yaml")
	err := errors.Join(os.WriteFile(file, []byte("cluster: prod\ndetection: lan\n"), 0o640), os.Symlink("node-a.yaml", link))
	if err != nil {
		t.Fatal(err)
	}
	ctl := operator(dir, closedPort(t))
	ctl.env["EDITOR"] = "sed -i s/lan/wan/"
	ctl.run(t, "config", "edit", link, "--yes").want(t, exitFailed, "connection refused", "what you made is in "+folder)
	ctl.env["DUOCTL_ENDPOINT"] = serve(t, newFakeCluster(), dir)
	ctl.run(t, "config", "edit", link, "--yes").want(t, exitOK)
	text, err := os.ReadFile(file)
	if to, linked := os.Readlink(link); err != nil || linked != nil || to != "node-a.yaml" || !strings.Contains(string(text), "wan") {
		t.Errorf("%s is %q, %v; the file is %q, %v", link, to, linked, text, err)
	}
}
