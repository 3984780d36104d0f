package node

import (
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeysOfNow: what is written over the keyring is used from then on, and what cannot be used changes nothing and is said once.
func TestKeysOfNow(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	next := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("n", 32))) + "\n"
	put := func(text string, mode os.FileMode) {
		t.Helper()
		must(t, os.RemoveAll(path))
		write(t, dir, "keys", mode, []byte(text))
	}
	put(goodKeys, 0o600)
	said := &strings.Builder{}
	cfg := Config{Gossip: Gossip{Keyring: path}}
	ring, err := cfg.LoadKeyring(slog.New(slog.NewTextHandler(said, nil)))
	must(t, err)
	first := fingerprints(ring.Keys())
	for _, bad := range []struct {
		text, says string
		mode       os.FileMode
	}{
		{"half of a k", "line 1 is not base64", 0o600},
		{"", "no key in it", 0o600},
		{next + goodKeys, "others may read", 0o604},
	} {
		said.Reset()
		put(bad.text, bad.mode)
		for range 3 {
			if now := fingerprints(ring.Keys()); now != first {
				t.Errorf("after %q the keys are %s", bad.text, now)
			}
		}
		if n := strings.Count(said.String(), "changed gossip keys are not used"); n != 1 || !strings.Contains(said.String(), bad.says) {
			t.Errorf("after %q it was said %d times: %s", bad.text, n, said)
		}
	}
	must(t, os.Remove(path))
	if now := fingerprints(ring.Keys()); now != first {
		t.Errorf("without a file the keys are %s", now)
	}
	said.Reset()
	put(goodKeys+next, 0o600)
	both := fingerprints(ring.Keys())
	put(next+goodKeys, 0o600) // of the same size
	turned := fingerprints(ring.Keys())
	if !strings.HasPrefix(both, first+" ") || !strings.HasSuffix(turned, " "+first) || len(both) != len(turned) {
		t.Errorf("the keys were %s, then %s, then %s", first, both, turned)
	}
	if text := said.String(); !strings.Contains(text, turned) || strings.Contains(text, strings.TrimSpace(next)) {
		t.Errorf("it says %s", text)
	}
}
