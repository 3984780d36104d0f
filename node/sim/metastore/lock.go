package metastore

import "slices"

// The modes of a lock that are told apart here, as Postgres names them.
type lockMode int

const (
	accessShare lockMode = iota
	rowShare
	rowExclusive
	share
	exclusive
	accessExclusive
)

// conflicts is the table of conflicts: bit m of a line is mode m.
var conflicts = [...]uint8{
	accessShare:     1 << accessExclusive,
	rowShare:        1<<exclusive | 1<<accessExclusive,
	rowExclusive:    1<<share | 1<<exclusive | 1<<accessExclusive,
	share:           1<<rowExclusive | 1<<exclusive | 1<<accessExclusive,
	exclusive:       1<<rowShare | 1<<rowExclusive | 1<<share | 1<<exclusive | 1<<accessExclusive,
	accessExclusive: 0x3f,
}

func (m lockMode) conflicts(other lockMode) bool { return conflicts[m]>>other&1 == 1 }

// lock is one thing that can be locked: a relation, a transaction, a row, a key of the catalog, a number.
type lock struct {
	tag     string
	held    []holding
	waiting []request
}

// holding is a lock held until the transaction ends, or, with session set, until the session ends or gives it back.
type holding struct {
	owner   *tx
	session PID // 0 = the transaction's
	mode    lockMode
}

func (h holding) pid() PID {
	if h.session != 0 {
		return h.session
	}
	return h.owner.pid
}

type request struct {
	by   *backend
	mode lockMode
}

type locks struct{ all []*lock } // by tag

func (l *locks) find(tag string) (*lock, int, bool) {
	at, found := slices.BinarySearchFunc(l.all, tag, func(k *lock, tag string) int {
		switch {
		case k.tag < tag:
			return -1
		case k.tag > tag:
			return 1
		}
		return 0
	})
	if !found {
		return nil, at, false
	}
	return l.all[at], at, true
}

func (l *locks) get(tag string) *lock {
	found, at, ok := l.find(tag)
	if !ok {
		found = &lock{tag: tag}
		l.all = slices.Insert(l.all, at, found)
	}
	return found
}

// free says whether owner would get the lock at once; behind whom else it has to wait in the queue when not.
func (k *lock) free(owner *tx, mode lockMode) bool {
	for _, h := range k.held {
		if h.owner != owner && mode.conflicts(h.mode) {
			return false
		}
	}
	for _, r := range k.waiting {
		if r.by.tx != owner && mode.conflicts(r.mode) {
			return false
		}
	}
	return true
}

func (k *lock) holds(owner *tx, mode lockMode) bool {
	return slices.ContainsFunc(k.held, func(h holding) bool { return h.owner == owner && h.mode == mode && h.session == 0 })
}

// acquire gives the lock, or puts b in the queue: then b has a wait and is granted later.
func (s *Server) acquire(b *backend, tag string, mode lockMode) bool {
	k := s.locks.get(tag)
	if k.holds(b.tx, mode) {
		return true
	}
	if k.free(b.tx, mode) {
		k.held = append(k.held, holding{owner: b.tx, mode: mode})
		return true
	}
	place, mine := k.place(b.tx, mode)
	switch mine {
	case atOnce:
		k.held = append(k.held, holding{owner: b.tx, mode: mode})
		return true
	case never:
		b.deadlocked = true
	default:
		k.waiting = slices.Insert(k.waiting, place, request{b, mode})
		b.wait = &wait{lock: tag}
	}
	return false
}

// turn is what becomes of a request that conflicts with something.
type turn int

const (
	inQueue turn = iota
	atOnce
	never // it is a deadlock that can be seen without a search
)

// place is where in the queue a request goes: last, but before the first that waits for what the owner holds already.
func (k *lock) place(owner *tx, mode lockMode) (int, turn) {
	var ahead []lockMode
	for i, r := range k.waiting {
		if !k.blocks(owner, r.mode) {
			ahead = append(ahead, r.mode)
			continue
		}
		switch {
		case k.blocks(r.by.tx, mode):
			return i, never
		case !slices.ContainsFunc(ahead, mode.conflicts) && !slices.ContainsFunc(k.held, func(h holding) bool { return h.owner != owner && mode.conflicts(h.mode) }):
			return i, atOnce
		}
		return i, inQueue
	}
	return len(k.waiting), inQueue
}

// blocks says whether the owner holds the lock in a mode that conflicts.
func (k *lock) blocks(owner *tx, mode lockMode) bool {
	return slices.ContainsFunc(k.held, func(h holding) bool { return h.owner == owner && mode.conflicts(h.mode) })
}

// await waits until nobody holds the lock in a mode that conflicts, and holds it not.
func (s *Server) await(b *backend, tag string) (free bool) {
	k, _, found := s.locks.find(tag)
	if !found || k.free(b.tx, share) {
		return true
	}
	k.waiting = append(k.waiting, request{b, share})
	b.wait = &wait{lock: tag, passing: true}
	return false
}

// release gives back what matches, and grants to those who wait.
func (s *Server) release(tag string, match func(holding) bool) {
	k, at, found := s.locks.find(tag)
	if !found {
		return
	}
	k.held = slices.DeleteFunc(k.held, match)
	s.grant(k)
	if len(k.held)+len(k.waiting) == 0 {
		s.locks.all = slices.Delete(s.locks.all, at, at+1)
	}
}

func (s *Server) releaseAll(match func(holding) bool) {
	for at := len(s.locks.all) - 1; at >= 0; at-- {
		if k := s.locks.all[at]; slices.ContainsFunc(k.held, match) {
			s.release(k.tag, match)
		}
	}
}

// grant wakes the waiters that nothing ahead of them conflicts with any more.
func (s *Server) grant(k *lock) {
	var stay []request
	for _, r := range k.waiting {
		ok := !slices.ContainsFunc(stay, func(o request) bool { return r.mode.conflicts(o.mode) }) &&
			!slices.ContainsFunc(k.held, func(h holding) bool { return h.owner != r.by.tx && r.mode.conflicts(h.mode) })
		if !ok {
			stay = append(stay, r)
			continue
		}
		if !r.by.wait.passing {
			k.held = append(k.held, holding{owner: r.by.tx, mode: r.mode})
		}
		r.by.wait = nil
	}
	k.waiting = stay
}

// giveUp takes a backend out of the queue it waits in.
func (s *Server) giveUp(b *backend) {
	if b.wait == nil {
		return
	}
	tag := b.wait.lock
	b.wait = nil
	if tag == "" {
		return
	}
	k, at, found := s.locks.find(tag)
	if !found {
		return
	}
	k.waiting = slices.DeleteFunc(k.waiting, func(r request) bool { return r.by == b })
	s.grant(k)
	if len(k.held)+len(k.waiting) == 0 {
		s.locks.all = slices.Delete(s.locks.all, at, at+1)
	}
}

// BlockedBy is pg_blocking_pids: who holds what the backend waits for, or waits for it before it. A prepared transaction is 0.
func (s *Server) BlockedBy(pid PID) []PID {
	b := s.backend(pid)
	if b == nil || b.wait == nil || b.wait.lock == "" {
		return nil
	}
	k, _, found := s.locks.find(b.wait.lock)
	if !found {
		return nil
	}
	var out []PID
	mine := slices.IndexFunc(k.waiting, func(r request) bool { return r.by == b })
	for _, h := range k.held {
		if h.owner != b.tx && k.waiting[mine].mode.conflicts(h.mode) && !slices.Contains(out, h.pid()) {
			out = append(out, h.pid())
		}
	}
	for _, r := range k.waiting[:mine] {
		if k.waiting[mine].mode.conflicts(r.mode) && !slices.Contains(out, r.by.pid) {
			out = append(out, r.by.pid)
		}
	}
	return out
}

// CheckDeadlock is what a backend does once it has waited for a lock for deadlock_timeout: if it waits for itself it fails with CodeDeadlock.
// A queue that could be put in another order to help is not.
func (s *Server) CheckDeadlock(pid PID) {
	b := s.backend(pid)
	if b == nil || b.frozen {
		return
	}
	seen := s.BlockedBy(pid)
	for at := 0; at < len(seen); at++ {
		if seen[at] == pid {
			s.giveUp(b)
			s.fail(b, CodeDeadlock)
			return
		}
		for _, next := range s.BlockedBy(seen[at]) {
			if !slices.Contains(seen, next) {
				seen = append(seen, next)
			}
		}
	}
}
