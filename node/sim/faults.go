package sim

import "github.com/duoflow/duoflow/node/sim/metastore"

// faulty is what is done wrong on purpose, to see that it is found. The zero value does everything right.
type faulty struct {
	// take leaves parts out of the statement that takes the fence.
	take []metastore.Part
	// noDrain: the older sessions are not looked at.
	noDrain bool
	// drainsOnce: they are ended, and nobody waits until they are gone.
	drainsOnce bool
	// sharedService: all lives of a host read their credentials from one file.
	sharedService bool
	// clears nothing of an earlier daemon.
	noClear bool
	// stops without waiting until the tree is empty.
	noWait bool
	// keepsToken: a daemon that is started again takes itself for the one before.
	keepsToken bool
	// forgets: disks lose what they said they had written, and nobody doubts.
	forgets bool
}

// wrongs are the faults that must be found, by name.
var wrongs = map[string]faulty{
	"no REVOKE":             {take: []metastore.Part{metastore.Revoking}},
	"no NOLOGIN":            {take: []metastore.Part{metastore.NoLogin}},
	"no REVOKE, no NOLOGIN": {take: []metastore.Part{metastore.Revoking, metastore.NoLogin}},
	"no guard":              {take: []metastore.Part{metastore.Guarding, metastore.Ahead}},
	"no drain":              {noDrain: true},
	"drain without waiting": {drainsOnce: true},
	"shared service file":   {sharedService: true},
	"no clear":              {noClear: true},
	"stop without waiting":  {noWait: true},
	"token kept":            {keepsToken: true},
}
