package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// ParseKeyring reads a keyring file: one key in base64 per line, the first being the one that encrypts. Blank
// lines and lines that begin with # are ignored. Errors name the line, never its text.
func ParseKeyring(text string) ([][]byte, error) {
	var keys [][]byte
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("parse keyring: line %d is not base64", i+1)
		}
		if err := memberlist.ValidateKey(key); err != nil {
			return nil, fmt.Errorf("parse keyring: line %d: key of %d bytes, want 16, 24 or 32", i+1, len(key))
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("parse keyring: no key in it")
	}
	return keys, nil
}

// Fingerprint is a name for a key that may be shown: the first four bytes of its SHA-256, in hex. Of a random key of at least
// 128 bits it gives nothing away.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:4])
}

// rotate makes the ring hold exactly these keys; the first encrypts from then on.
//
// memberlist reads the ring while it is changed, and its RemoveKey shifts, within the array that a reader may just go through, all
// keys that stand behind the removed one. So only the last is ever removed, which shifts nothing; what has to go with it although it
// is to stay is put back at once. A packet under such a key may be lost meanwhile, as any packet may.
func rotate(ring *memberlist.Keyring, keys [][]byte) error {
	add := func() error {
		for _, key := range keys {
			if err := ring.AddKey(key); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add(); err != nil {
		return err
	}
	if err := ring.UseKey(keys[0]); err != nil {
		return err
	}
	old := ring.GetKeys()
	stays := func(key []byte) bool {
		return slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	first := slices.IndexFunc(old, func(key []byte) bool { return !stays(key) })
	if first < 0 {
		return nil
	}
	for i := len(old) - 1; i >= first; i-- {
		if err := ring.RemoveKey(old[i]); err != nil {
			return err
		}
	}
	return add()
}

// takeKeys looks whether the keys are others now.
func (g *Gossip) takeKeys(ring *memberlist.Keyring) {
	if g.cfg.Rotated == nil {
		return
	}
	keys := g.cfg.Rotated()
	if len(keys) == 0 || slices.EqualFunc(keys, g.keys, bytes.Equal) {
		return
	}
	if err := rotate(ring, keys); err != nil {
		g.log.Warn("changed gossip keys are not used", "err", err)
		return
	}
	g.keys = keys
}
