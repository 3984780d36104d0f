package sim

import "github.com/duoflow/duoflow/node/sim/metastore"

// faulty is what is done wrong on purpose, to see that it is found. The zero value does everything right.
type faulty struct {
	// take leaves parts out of the statement that takes the fence.
	take []metastore.Part
	// noDrain: the older sessions are not looked at.
	noDrain bool
	// drainsOnce: they are sent a signal, and nobody waits until they are gone.
	drainsOnce bool
	// noClear: what an earlier daemon left is let be.
	noClear bool
	// noWait: an epoch is given back before its tree is empty.
	noWait bool
	// keepsToken: a daemon that is started again takes itself for the one before.
	keepsToken bool
	// adoptsForEver: a login that the metastore refuses is tried again, as if that could help.
	adoptsForEver bool
	// ownReads: a linearizable read is answered without asking the others.
	ownReads bool
}

// wrong is something done wrong, and a seed that finds it: what a seed does changes with every change of the code, so that is
// only where the search begins.
type wrong struct {
	faulty
	seed uint64
	// rare ones take up to a thousand worlds to find once the seed has ceased to.
	rare bool
}

// wrongs are what must be found, by name.
var wrongs = map[string]wrong{
	"no REVOKE":             {faulty{take: []metastore.Part{metastore.Revoking}}, 0, false},
	"no NOLOGIN":            {faulty{take: []metastore.Part{metastore.NoLogin}}, 0, false},
	"no REVOKE, no NOLOGIN": {faulty{take: []metastore.Part{metastore.Revoking, metastore.NoLogin}}, 0, false},
	"no guard":              {faulty{take: []metastore.Part{metastore.Guarding, metastore.Ahead}}, 260, true},
	"no drain":              {faulty{noDrain: true}, 5, false},
	"drain without waiting": {faulty{drainsOnce: true}, 698, true},
	"no clear":              {faulty{noClear: true}, 5, false},
	"stop without waiting":  {faulty{noWait: true}, 199, true},
	"token kept":            {faulty{keepsToken: true}, 0, false},
	"adoption for ever":     {faulty{adoptsForEver: true}, 1572, true},
}
