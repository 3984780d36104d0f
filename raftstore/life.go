package raftstore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"go.etcd.io/bbolt"
)

// Life is one life of a cluster. The zero value is the first; each restore from a backup, and each recovery from a lost
// majority, begins the next. Nodes of two lives are of two clusters: what the one has agreed on the other knows nothing of.
type Life struct {
	Number uint64 // how many there were before
	ID     string // 16 lower-case hexadecimal digits, drawn when it began; "" in the first
}

var lifeForm = regexp.MustCompile(`^([1-9][0-9]{0,8})-([0-9a-f]{16})$`)

// Next draws the life that follows.
func (l Life) Next() Life {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: it ends the program instead
	return Life{Number: l.Number + 1, ID: hex.EncodeToString(id[:])}
}

// String is "0", or the number and the id with a dash between.
func (l Life) String() string {
	if l == (Life{}) {
		return "0"
	}
	return fmt.Sprintf("%d-%s", l.Number, l.ID)
}

// ParseLife reads what String wrote.
func ParseLife(text string) (Life, error) {
	if text == "0" {
		return Life{}, nil
	}
	parts := lifeForm.FindStringSubmatch(text)
	if parts == nil {
		return Life{}, fmt.Errorf("life %.32q: want 0, or a number, a dash and 16 hexadecimal digits", text)
	}
	number, err := strconv.ParseUint(parts[1], 10, 64)
	return Life{Number: number, ID: parts[2]}, err
}

// lifeMark stands between the name of a cluster and its life, on disk and on envelopes. The first life has none, so it looks as
// all did before there were others, and a program of then refuses the later ones.
const lifeMark = "#"

// identity is a cluster in one of its lives.
func identity(cluster string, l Life) string {
	if l == (Life{}) {
		return cluster
	}
	return cluster + lifeMark + l.String()
}

// lifeIn reads the life out of an identity; false for that of another cluster.
func lifeIn(cluster, identity string) (Life, bool) {
	if identity == cluster {
		return Life{}, true
	}
	text, found := strings.CutPrefix(identity, cluster+lifeMark)
	if !found {
		return Life{}, false
	}
	l, err := ParseLife(text)
	return l, err == nil && l != (Life{})
}

// errLife refuses a peer of another life.
var errLife = errors.New("of another life of this cluster")

// belonging is the life that a store is of. A node with a new disk does not know it: it is of the first that a peer tells
// of, or of the first of all if it comes to write something before.
type belonging struct {
	mu      sync.Mutex
	cluster string
	life    Life
	unborn  bool // nothing was written yet
	told    bool // the life is a peer's word, and not on disk yet
}

// found takes what the disk says.
func (b *belonging) found(l Life, unborn bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.life, b.unborn, b.told = l, unborn && l == (Life{}), false
}

// now is the life as far as it is known.
func (b *belonging) now() Life {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.life
}

// identity is what this node's envelopes carry.
func (b *belonging) identity() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return identity(b.cluster, b.life)
}

// check compares a peer's identity with ours. Where ours is not settled, that of a later life will do: see follow.
func (b *belonging) check(theirs string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	life, same := lifeIn(b.cluster, theirs)
	switch {
	case !same:
		return fmt.Errorf("it is for cluster %.64q, this node is of cluster %q", theirs, identity(b.cluster, b.life))
	case life == b.life, b.unborn && life.Number > b.life.Number:
		return nil
	case life.Number > b.life.Number:
		return fmt.Errorf("%w: it is of life %s, this node of life %s, which ended when the cluster was restored or recovered; "+
			"move this node's data directory away, and it starts empty and catches up", errLife, life, b.life)
	}
	return fmt.Errorf("%w: it is of life %s, this node of life %s, which began when the cluster was restored or recovered", errLife, life, b.life)
}

// follow takes over the identity of a peer who is who it says it is, if check lets it pass.
func (b *belonging) follow(theirs string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if life, same := lifeIn(b.cluster, theirs); same && b.unborn && life.Number > b.life.Number {
		b.life, b.told = life, true
	}
}

// settle is called before anything is written: from then on this node is of that life and no other. write says that the disk
// does not know it yet.
func (b *belonging) settle() (l Life, write bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	write = b.told
	b.unborn, b.told = false, false
	return b.life, write
}

// Life is the life of the cluster that this node is of: the zero value before Run has read the disk.
func (s *Store) Life() Life { return s.cfg.belongs.now() }

// putLife writes to whom the file belongs.
func putLife(tx *bbolt.Tx, cluster string, l Life) error {
	return put(tx, bucketMeta, keyCluster, []byte(identity(cluster, l)))
}
