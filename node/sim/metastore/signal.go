package metastore

// Terminate is pg_terminate_backend. Value: bool, whether there was such a session. What it does to the other takes its time.
type Terminate struct{ PID PID }

// Cancel is pg_cancel_backend. Value: bool.
type Cancel struct{ PID PID }

func (st Terminate) units() []unit {
	return []unit{func(s *Server, b *backend, r *run) verdict {
		sent, code := s.signal(b, st.PID, func(to *backend) { to.term = true })
		r.value = sent
		return failed(code)
	}, nothing} // who signals itself notices here
}

func (st Cancel) units() []unit {
	return []unit{func(s *Server, b *backend, r *run) verdict {
		sent, code := s.signal(b, st.PID, func(to *backend) { to.cancel = true })
		r.value = sent
		return failed(code)
	}, nothing}
}

// signal sends a signal if the session may: a superuser's session only a superuser may end.
func (s *Server) signal(b *backend, pid PID, send func(*backend)) (sent bool, code Code) {
	to := s.backend(pid)
	if to == nil {
		return false, OK
	}
	c := s.cached(b)
	signaller, _ := c.named(SignalBackend)
	switch super := c.superuser(b.own); {
	case super:
	case c.superuser(to.user), to.user == 0 && s.config.Version >= 16:
		return false, CodeDenied
	case !c.hasPrivs(b.own, to.user, s.grantOptions()) && !c.hasPrivs(b.own, signaller.oid, s.grantOptions()):
		return false, CodeDenied
	}
	send(to)
	return true, OK
}
