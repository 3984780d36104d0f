package metastore

import "slices"

// Drain is duoflow.drain. Its list of sessions is a picture, and the signals go out after it, one by one: what a session does
// in between the picture does not show. Value: Left.
type Drain struct {
	Job, Group string
	Epoch      uint64
	Token      string
	Unlisted   []PID // what the first look found; nil in the first, which believes of nobody that it is idle
	Force      bool  // end those too
}

// Left is what one look of a drain found.
type Left struct {
	Holds    bool     // the row still is this claim's; else nothing was done
	Remain   []PID    // sessions of older epochs that could still commit
	Prepared []string // prepared transactions of older epochs
	Unlisted []PID    // Postgres <= 15: logins under way that nobody can see
}

// Empty says that nothing is left.
func (l Left) Empty() bool { return len(l.Remain)+len(l.Prepared)+len(l.Unlisted) == 0 }

// draining is what Drain remembers.
type draining struct {
	Left
	old []PID // in the picture, to be signalled
}

func (st Drain) units() []unit {
	return []unit{
		callable,
		func(s *Server, _ *backend, r *run) verdict {
			left := &draining{}
			if !s.grantOptions() {
				left.Unlisted = st.starting(s)
			}
			r.local = left
			return onward
		},
		begun(FenceTable, accessShare, func(r Right) bool { return r.Select }),
		st.picture, st.end, st.force,
	}
}

// starting are the logins that hold a lock on the database.
func (st Drain) starting(s *Server) []PID {
	var out []PID
	for _, b := range s.backends {
		if b.phase > entering && b.phase < ready && (st.Unlisted == nil || slices.Contains(st.Unlisted, b.pid)) {
			out = append(out, b.pid)
		}
	}
	return out
}

// picture looks at the row, the sessions and the prepared transactions.
func (st Drain) picture(s *Server, b *backend, r *run) verdict {
	left := r.local.(*draining)
	for _, row := range s.read(b, FenceTable, st.Job, r.snapshot) {
		left.Holds = row.Epoch == st.Epoch && row.Token == st.Token
	}
	var old []OID
	for _, role := range s.epochRoles(b, st.Job, st.Group) {
		if role.epoch < st.Epoch {
			old = append(old, role.oid)
		}
	}
	for _, x := range s.prepared {
		if slices.Contains(old, x.own) {
			left.Prepared = append(left.Prepared, x.gid)
		}
	}
	for _, session := range s.backends {
		if !left.Holds || session.phase < ready || !slices.Contains(old, session.user) {
			continue
		}
		left.old = append(left.old, session.pid)
		idle := session.state() == StateIdle && s.mayRead(b, session.user) && st.Unlisted != nil
		if !s.grantOptions() || !idle {
			left.Remain = append(left.Remain, session.pid)
		}
	}
	return onward
}

// end signals one session of the picture.
func (st Drain) end(s *Server, b *backend, r *run) verdict {
	left := r.local.(*draining)
	if len(left.old) == 0 {
		return onward
	}
	if _, code := s.signal(b, left.old[0], func(to *backend) { to.term = true }); code != OK {
		return failed(code)
	}
	left.old = left.old[1:]
	return again
}

// mayRead says whether pg_stat_activity shows the state of a session of the role.
func (s *Server) mayRead(b *backend, of OID) bool {
	c := s.cached(b)
	stats, _ := c.named(ReadAllStats)
	return c.hasPrivs(b.own, stats.oid, s.grantOptions()) || c.hasPrivs(b.own, of, s.grantOptions())
}

// force ends the logins under way, if asked to, and answers.
func (st Drain) force(s *Server, b *backend, r *run) verdict {
	left := r.local.(*draining)
	left.Unlisted = slices.DeleteFunc(left.Unlisted, func(pid PID) bool {
		starting := s.backend(pid)
		return starting != nil && starting.phase == ready // it is in the list now
	})
	if left.Holds && st.Force {
		for _, pid := range left.Unlisted {
			_, _ = s.signal(b, pid, func(to *backend) { to.term = true }) // a superuser's login is let be
		}
	}
	r.value = left.Left
	return onward
}

// Release is duoflow.release. Value: bool, whether the row still was this claim's.
type Release struct {
	Job, Group string
	Epoch      uint64
	Token      string
}

func (st Release) units() []unit {
	matches := func(r Row) bool { return r.Epoch == st.Epoch && r.Token == st.Token }
	return []unit{
		callable, begun(FenceTable, rowShare, mayLock), find(FenceTable, st.Job, matches), lockFound(true, matches),
		func(s *Server, b *backend, r *run) verdict {
			r.value, r.local = r.row != nil, []epochRole(nil)
			if r.row != nil {
				r.local = s.epochRoles(b, st.Job, st.Group)
				b.tx.notices = append(b.tx.notices, st.Job+" "+number(st.Epoch))
			}
			return onward
		},
		func(_ *Server, _ *backend, r *run) verdict {
			left := r.local.([]epochRole)
			if len(left) == 0 {
				return onward
			}
			r.call(disarm{group: st.Group, role: left[0].Name})
			r.local = left[1:]
			return again
		},
	}
}

// Collect is duoflow.collect. Value: int, how many roles it dropped.
type Collect struct {
	Job, Group string
	Keep       uint64 // epochs below the row that keep their role
	Most       int
}

// collecting is what Collect remembers.
type collecting struct {
	left    []epochRole
	dropped int
}

func (st Collect) units() []unit {
	return []unit{
		callable, begun(FenceTable, rowShare, mayLock), find(FenceTable, st.Job, anyRow), lockFound(true, anyRow),
		func(s *Server, b *backend, r *run) verdict {
			c := &collecting{}
			if held := found(b, r); held != nil {
				c.left = s.collectable(b, st, held[0].Epoch)
			}
			r.local, r.value = c, 0
			return onward
		},
		func(_ *Server, _ *backend, r *run) verdict {
			c := r.local.(*collecting)
			r.value = c.dropped
			if len(c.left) == 0 || c.dropped >= st.Most {
				return onward
			}
			r.call(removal{st.Group, c.left[0].Name})
			c.left, c.dropped = c.left[1:], c.dropped+1
			return again
		},
	}
}

// collectable are the roles far enough below the row that nothing of theirs is left.
func (s *Server) collectable(b *backend, st Collect, held uint64) []epochRole {
	return slices.DeleteFunc(s.epochRoles(b, st.Job, st.Group), func(r epochRole) bool {
		return r.epoch+st.Keep >= held ||
			slices.ContainsFunc(s.backends, func(o *backend) bool { return o.phase == ready && o.user == r.oid }) ||
			slices.ContainsFunc(s.prepared, func(x *tx) bool { return x.own == r.oid })
	})
}

// removal disarms a role and drops it.
type removal struct{ group, role string }

func (st removal) units() []unit {
	return []unit{
		func(_ *Server, _ *backend, r *run) verdict {
			r.call(disarm{group: st.group, role: st.role})
			return onward
		},
		func(_ *Server, _ *backend, r *run) verdict { r.call(DropRole{st.role}); return onward },
	}
}

// Unblock is duoflow.unblock: it ends the sessions that hold a lock which PID waits for. A session whose application is Fencer and that
// only waits itself is spared, and whoever it waits for ended instead. Value: []PID, those that were signalled.
type Unblock struct {
	PID         PID
	Application string
}

func (st Unblock) units() []unit {
	return []unit{callable, func(s *Server, b *backend, r *run) verdict {
		var ended []PID
		for _, pid := range st.blockers(s) {
			o := s.backend(pid)
			if pid == st.PID || o != nil && o.login.Application == st.Application && len(s.BlockedBy(pid)) > 0 {
				continue
			}
			if sent, code := s.signal(b, pid, func(to *backend) { to.term = true }); sent && code == OK {
				ended = append(ended, pid)
			}
		}
		r.value = ended
		return onward
	}}
}

// blockers are those that block the session, and those that block a fencer among them.
func (st Unblock) blockers(s *Server) []PID {
	out := s.BlockedBy(st.PID)
	for at := 0; at < len(out); at++ {
		if o := s.backend(out[at]); o == nil || o.login.Application != st.Application {
			continue
		}
		for _, pid := range s.BlockedBy(out[at]) {
			if !slices.Contains(out, pid) {
				out = append(out, pid)
			}
		}
	}
	return out
}

// Probe is how a fencer looks at the server. Value: Health.
type Probe struct{ Job, Group string }

// Health is the answer of Probe.
type Health struct {
	Row         Row
	Found       bool // there is a row
	HighestRole uint64
	Version     int
}

func (st Probe) units() []unit {
	return []unit{begun(FenceTable, accessShare, func(r Right) bool { return r.Select }), callable, func(s *Server, b *backend, r *run) verdict {
		health := Health{HighestRole: highest(s.epochRoles(b, st.Job, st.Group)), Version: s.config.Version}
		for _, row := range s.read(b, FenceTable, st.Job, r.snapshot) {
			health.Row, health.Found = row, true
		}
		r.value = health
		return onward
	}}
}
