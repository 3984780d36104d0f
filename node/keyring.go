package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/duoflow/duoflow/gossip"
)

// Keyring is the gossip keys, read anew when their file has changed. Its methods are safe for concurrent use.
type Keyring struct {
	path   string
	logger *slog.Logger

	mu sync.Mutex
	// wrong is what was said last about a file that cannot be used.
	wrong string
	keys  [][]byte
}

// LoadKeyring reads gossip.keyring.
func (c *Config) LoadKeyring(logger *slog.Logger) (*Keyring, error) {
	k := &Keyring{path: c.Gossip.Keyring, logger: logger}
	var err error
	if k.keys, err = k.read(); err != nil {
		return nil, err
	}
	return k, nil
}

// Keys are those in the file now, the first of which encrypts. A file that cannot be used leaves everything as it was, and is said
// once: an administrator who is just replacing it must not cut a node off.
func (k *Keyring) Keys() [][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys, err := k.read()
	switch {
	case err == nil && !slices.EqualFunc(keys, k.keys, bytes.Equal):
		k.keys = keys
		k.logger.Info("changed gossip keys are used from now on", "keys", fingerprints(keys))
	case err != nil && err.Error() != k.wrong:
		k.logger.Warn("changed gossip keys are not used", "err", err)
	}
	k.wrong = ""
	if err != nil {
		k.wrong = err.Error()
	}
	return slices.Clone(k.keys)
}

// read has the same demands on the file as the start of the daemon.
func (k *Keyring) read() ([][]byte, error) {
	p := &Problems{}
	text, ok := contents(p, "gossip.keyring", k.path, secret)
	if len(p.List) > 0 || !ok {
		return nil, p
	}
	keys, err := gossip.ParseKeyring(string(text))
	if err != nil {
		return nil, fmt.Errorf("gossip.keyring: %s: %w", k.path, err)
	}
	return keys, nil
}

// fingerprints name the keys, in their order.
func fingerprints(keys [][]byte) string {
	var names []string
	for _, key := range keys {
		names = append(names, gossip.Fingerprint(key))
	}
	return strings.Join(names, " ")
}
