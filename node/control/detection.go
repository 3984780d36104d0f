package control

import (
	"fmt"
	"time"

	"github.com/duoflow/duoflow/node/lease"
)

// Detection is how long a node may be unheard, as holder, before it is suspected, and what that rests on.
type Detection struct {
	// After is the time in force: Profile, raised by Gaps, doubled for Silences.
	After time.Duration
	// Profile is what the configuration says.
	Profile time.Duration
	// Gaps are those between beats of the node.
	Gaps Gaps
	// Silences counts the failovers by silence within the calm window.
	Silences int
}

// gapsMargin times the p99.9 of the gaps between its beats is how long a node may be unheard.
const gapsMargin = 3

// Detection returns the detection time for a node as it is now.
func (g *Granter) Detection(id lease.NodeID) Detection {
	return g.detection(g.peer(id))
}

// detection starts from the profile, is raised to what the gaps between the node's beats ask for, up to a limit of
// its own, and then doubled for each failover by silence over the second in the calm window, up to eight times the
// profile: so a flaky link or a starved host settles down instead of bouncing the job, whether its beats are late all
// the time (gaps) or seldom but much (silences).
func (g *Granter) detection(p *peer) Detection {
	g.silences = g.recent(g.silences)
	d := Detection{Profile: g.cfg.Timing.Silence, Gaps: p.gaps.at(g.now), Silences: len(g.silences)}
	d.After = doubled(d.raised(), d.Silences-1, 8*d.Profile)
	return d
}

// raised is the profile's time, or more when beats come so irregularly that the profile would take lateness for death.
func (d Detection) raised() time.Duration {
	if d.Gaps.Count < gapsEnough {
		return d.Profile
	}
	return max(d.Profile, min(raiseLimit(d.Profile), gapsMargin*d.Gaps.P999))
}

// raiseLimit bounds what gaps can raise a profile's time to, so that one host in trouble cannot turn detection off:
// 1.2 s for fast, 2 s for lan, 8 s for wan.
func raiseLimit(profile time.Duration) time.Duration {
	return min(8*profile, max(2*time.Second, 4*profile))
}

// patience is the detection time, but for a node that we have not heard since we were away or alone ourselves, or never:
// connections do not outlive that, and a healthy node that has to find us again needs more than the time in which it
// beats. A redial that is refused is proof at once all the same.
func (g *Granter) patience(p *peer) time.Duration {
	after := g.detection(p).After
	if p.missed || p.heardAt == 0 {
		return max(after, raiseLimit(g.cfg.Timing.Silence))
	}
	return after
}

// Reason says why After is not the profile's; empty when it is.
func (d Detection) Reason() string {
	var why string
	if up := d.raised(); up > d.Profile {
		why = fmt.Sprintf("raised from %s to %s: its beats come up to %s apart (p99.9 of %d)", d.Profile, up, d.Gaps.P999, d.Gaps.Count)
	}
	if d.After == d.raised() {
		return why
	}
	if why != "" {
		why += "; "
	}
	return why + fmt.Sprintf("doubled: %d failovers by silence lately", d.Silences)
}

// hearGap learns from the time since a node was heard last. It counts when it ended with a beat of the same life, on a
// connection that held, was not one of everybody's, and cost nobody the job: what else made a node silent is a failure, and says nothing about how
// late a healthy one may be.
func (p *peer) hearGap(said Report, now Instant) {
	if p.heardAt == 0 || p.cut || p.missed || said.Token != p.said.Token {
		return
	}
	if p.gaps == nil {
		p.gaps = &gaps{}
	}
	p.gaps.note(now, now.Since(p.heardAt))
}
