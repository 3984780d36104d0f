package gossip

import (
	"encoding/base64"
	"strings"
	"testing"
)

// FuzzParseKeyring: what is accepted are keys that memberlist takes, and spelled again they are the same; an error names the line and shows
// nothing of it.
func FuzzParseKeyring(f *testing.F) {
	f.Add("# comment\n\nAAECAwQFBgcICQoLDA0ODw==\n")
	f.Add("c2VjcmV0c2VjcmV0\n")
	f.Add("not base64: s3cr3t\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseKeyring(text)
		if err != nil {
			if keys != nil {
				t.Fatalf("%d keys beside %v", len(keys), err)
			}
			for line := range strings.SplitSeq(text, "\n") {
				if line = strings.TrimSpace(line); len(line) > 8 && strings.Contains(err.Error(), line) && !strings.Contains(fixed, line) {
					t.Fatalf("%v shows the line", err)
				}
			}
			return
		}
		var spelled strings.Builder
		for _, key := range keys {
			if n := len(key); n != 16 && n != 24 && n != 32 {
				t.Fatalf("a key of %d bytes", n)
			}
			spelled.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
		}
		again, err := ParseKeyring(spelled.String())
		if err != nil || len(again) != len(keys) {
			t.Fatalf("%d keys became %d, %v", len(keys), len(again), err)
		}
		for i := range keys {
			if string(again[i]) != string(keys[i]) {
				t.Fatalf("key %d changed", i)
			}
		}
	})
}

// fixed are the words of the errors themselves.
const fixed = "parse keyring: line is not base64 key of bytes, want 16, 24 or 32 no key in it"
