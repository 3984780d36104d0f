package sim

import "time"

// mixes change what a seed has drawn, so that circumstances come together that matter to one rule and that chance brings
// together seldom or never. A world without a mix is not touched by them.
var mixes = map[string]func(*plan){
	"votes":   votes,
	"lags":    lags,
	"disks":   disks,
	"rush":    rush,
	"stalls":  stalls,
	"back":    back,
	"broken":  broken,
	"lost":    lost,
	"reborn":  reborn,
	"members": func(*plan) {}, // they are drawn elsewhere, see drawRegroup
}

// votes: who votes loses its power at once, and whoever it voted for is cut off.
func votes(p *plan) {
	p.ambush.vote = 0.5
	p.hit(2*time.Second, "cut a host off", "take the power from a host", "kill a daemon")
}

// lags: a node is behind while another forgets what it has acknowledged and the third is gone.
func lags(p *plan) {
	p.ambush.ack = 0.05
	p.hit(time.Second, "cut one way", "cut a host off", "move the job")
}

// disks: disks are replaced and torn while the log has much to say.
func disks(p *plan) {
	p.exits, p.startLong, p.startMost = 1, false, 20*time.Millisecond
	p.hit(time.Second, "another disk", "power lost in a write", "move the job", "cut one way")
}

// rush: the job moves all the time, from daemons that end, and its sessions are many, slow and deaf.
func rush(p *plan) {
	p.adopts, p.startLong, p.startMost, p.killMost = true, true, 3*time.Second, time.Second
	p.connections, p.thinkMost, p.unitSlow, p.deaf, p.blind = 3, 5*time.Millisecond, 0.01, 0.5, 0.95
	p.setRole, p.authDelay, p.longStatements = 0.3, 0.2, 0.2
	p.eager = 0.5
	p.hit(500*time.Millisecond, "move the job", "kill a daemon", "end a daemon in order", "freeze a backend")
}

// stalls: daemons stand still in the middle of a takeover, and all that comes meanwhile comes at once.
func stalls(p *plan) {
	p.eager, p.startLong, p.startMost = 0.9, true, 200*time.Millisecond
	p.hit(500*time.Millisecond, "freeze a daemon", "move the job", "cut a host off from the metastore")
}

// broken: what a host is to do does not work at first, and the job comes back to it soon.
func broken(p *plan) {
	p.startBreaks, p.stopBreaks = 0.3, 0.3
	back(p)
}

// back: the job comes back to a host soon, and its statements take long.
func back(p *plan) {
	p.startLong, p.startMost, p.killMost, p.longStatements = false, 20*time.Millisecond, time.Second, 0.5
	p.hit(300*time.Millisecond, "move the job", "freeze a process of the job")
}

// lost: the metastore loses fences while they are taken.
func lost(p *plan) {
	p.synchronous, p.adopts, p.eager = false, true, 0.9
	p.hit(2*time.Second, "fail the metastore over", "restore the metastore", "move the job")
}

// reborn: daemons die and are started again, at once.
func reborn(p *plan) {
	p.eager, p.orphans = 0.9, 0.5
	p.hit(300*time.Millisecond, "kill a daemon", "move the job")
}

// hit has only these kinds of trouble, at most so far apart.
func (p *plan) hit(apart time.Duration, kinds ...string) { p.faultMost, p.faults = apart, kinds }
