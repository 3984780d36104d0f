package control_test

import (
	"testing"
	"time"

	"github.com/duoflow/duoflow/node/control"
	"github.com/duoflow/duoflow/node/lease"
)

// late lets a beat every 200 ms only, until that is known, while the others beat every 50 ms.
func (c *court) late(id lease.NodeID) {
	c.t.Helper()
	for i := range 4 * 1100 {
		c.now = c.now.Add(50 * time.Millisecond)
		c.quiet[id] = i%4 != 0
		if effects := append(c.step(control.Tick{}), c.beats()...); len(effects) > 0 {
			c.t.Fatalf("beats of %s are 200 ms apart: %s", id, proposal(effects))
		}
	}
	c.quiet[id] = false
	c.beats()
}

// TestBlindHolderThatIsLate: how long a blind holder is left alone goes by its detection time too. Who is late with
// beats is late with looks at the metastore.
func TestBlindHolderThatIsLate(t *testing.T) {
	c := newCourt(t)
	c.beats()
	c.hold("a")
	c.late("a")
	d := c.g.Detection("a").After
	if d < 600*time.Millisecond || d > 650*time.Millisecond || c.g.Detection("b").After != 300*time.Millisecond {
		t.Fatalf("detection of a after %s, of b after %s", d, c.g.Detection("b").After)
	}
	c.change("a", func(r *control.Report) { r.Healthy = false })
	c.beats()
	want(t, c.pass(2*d-100*time.Millisecond), "nothing")
	want(t, c.pass(200*time.Millisecond), "grant 2 after 1 to b because blind")
}

// TestNewLifeIsNoLateness: the time a daemon took to restart is none between two beats, even when nobody saw its
// connection close.
func TestNewLifeIsNoLateness(t *testing.T) {
	c := newCourt(t)
	c.pass(time.Second)
	c.quiet["b"] = true
	c.pass(3 * time.Second)
	c.quiet["b"] = false
	c.change("b", func(r *control.Report) { r.Token = lease.Token("00000000000000000000000000000b0b") })
	c.pass(time.Second)
	if gaps := c.g.Detection("b").Gaps; gaps.Longest > 100*time.Millisecond || gaps.Count == 0 {
		t.Errorf("gaps between beats of b: %+v", gaps)
	}
}
