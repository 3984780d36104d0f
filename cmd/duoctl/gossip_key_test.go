package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/duoflow/duoflow/gossip"
)

// ringShown is what gossip-key answers with -o json.
type ringShown struct {
	File string
	Keys []struct {
		Name     string
		Bits     int
		Encrypts bool
	}
}

func changeRing(t *testing.T, path string, args ...string) (shown ringShown) {
	t.Helper()
	r := console{}.run(t, append([]string{"tls", "gossip-key", "-o", "json", "--keyring", path}, args...)...)
	r.want(t, exitOK)
	if err := json.Unmarshal([]byte(r.out), &shown); err != nil || shown.File != path {
		t.Fatalf("%v: %s", err, r.out)
	}
	return shown
}

// TestGossipKeyRotates goes the way of an operator; each file is one that a node takes, and no key is ever shown.
func TestGossipKeyRotates(t *testing.T) {
	path := filepath.Join(makeCertificates(t), "gossip.key")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("# of the test\n\n"), before...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	old := changeRing(t, path, "list").Keys[0]
	if !old.Encrypts || old.Bits != 256 {
		t.Errorf("%+v", old)
	}
	both := changeRing(t, path, "add")
	if len(both.Keys) != 2 || both.Keys[0] != old || both.Keys[1].Encrypts {
		t.Fatalf("after add: %+v", both)
	}
	next := both.Keys[1].Name
	console{}.run(t, "tls", "gossip-key", "remove", "--keyring", path, old.Name).want(t, exitUnsafe, old.Name, "promote")
	turned := changeRing(t, path, "promote", next)
	if turned.Keys[0].Name != next || !turned.Keys[0].Encrypts || turned.Keys[1].Name != old.Name {
		t.Errorf("after promote: %+v", turned)
	}
	changeRing(t, path, "promote", next) // again, which changes nothing
	left := changeRing(t, path, "remove", old.Name)
	if len(left.Keys) != 1 || left.Keys[0].Name != next {
		t.Errorf("after remove: %+v", left)
	}
	console{}.run(t, "tls", "gossip-key", "remove", "--keyring", path, next).want(t, exitUnsafe)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := gossip.ParseKeyring(string(text))
	if err != nil || len(keys) != 1 || gossip.Fingerprint(keys[0]) != next || !strings.HasPrefix(string(text), "# of the test\n\n") {
		t.Errorf("%v in %d lines", err, strings.Count(string(text), "\n"))
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	table := console{}.run(t, "tls", "gossip-key", "list", "--keyring", path)
	for _, secret := range []string{strings.TrimSpace(string(before)), strings.TrimSpace(string(text[len("# of the test\n\n"):]))} {
		if strings.Contains(table.out, secret) {
			t.Error("a key is shown")
		}
	}
}

// TestGossipKeyKeepsTheGroup: root's keyring may be read by the daemon's group, whoever changes it. Only root, or who is in a second
// group, can try.
func TestGossipKeyKeepsTheGroup(t *testing.T) {
	path := filepath.Join(makeCertificates(t), "gossip.key")
	group := 4242
	if os.Geteuid() != 0 {
		groups, err := os.Getgroups()
		if err != nil {
			t.Fatal(err)
		}
		group = append([]int{os.Getegid()}, groups...)[len(groups)]
	}
	if err := errors.Join(os.Chown(path, -1, group), os.Chmod(path, 0o640)); err != nil {
		t.Fatal(err)
	}
	changeRing(t, path, "add")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); int(owner.Gid) != group || int(owner.Uid) != os.Geteuid() || info.Mode() != 0o640 {
		t.Errorf("of user %d, group %d, mode %v", owner.Uid, owner.Gid, info.Mode())
	}
}

// TestGossipKeyRefuses: what cannot be changed stays as it is.
func TestGossipKeyRefuses(t *testing.T) {
	path := filepath.Join(makeCertificates(t), "gossip.key")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) result {
		return console{}.run(t, append([]string{"tls", "gossip-key"}, args...)...)
	}
	run("add").want(t, exitUsage, "--keyring is missing")
	run("promote", "--keyring", path, "00000000").want(t, exitUsage, "no key is called")
	run("promote", "--keyring", path).want(t, exitUsage)
	run("add", "--keyring", path+"s").want(t, exitFailed, "find keyring")
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run("add", "--keyring", path).want(t, exitFailed, "somebody else changes")
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("%v: the file has changed", err)
	}
	if err := os.WriteFile(path, append(before, []byte("my-password!\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run("list", "--keyring", path)
	r.want(t, exitFailed, "line 2 is not base64")
	if strings.Contains(r.err, "password") {
		t.Errorf("%s", r.err)
	}
	if err := os.WriteFile(path, append(before, before...), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := gossip.ParseKeyring(string(before))
	if err != nil {
		t.Fatal(err)
	}
	run("remove", "--keyring", path, gossip.Fingerprint(keys[0])).want(t, exitFailed, "2 lines")
}
