package sim

import (
	"fmt"
	"maps"
	"time"

	"github.com/duoflow/duoflow/node/sim/metastore"
)

// counts is what worlds contained.
type counts struct {
	reads                                                                                                                                   int // linearizable ones that were answered
	failovers, fences, zombies, restarts, kills, partitions, stalls, commits, moves, servers, lostFences, restores, stolen, refused, orders int
	removed                                                                                                                                 int // daemons that were told that their node is none of the cluster's any more
	// settled is how long it took until the job was served after everything was mended.
	settled time.Duration
}

func (c *counts) add(o counts) {
	c.failovers += o.failovers
	c.fences += o.fences
	c.zombies += o.zombies
	c.restarts += o.restarts
	c.kills += o.kills
	c.partitions += o.partitions
	c.stalls += o.stalls
	c.commits += o.commits
	c.moves += o.moves
	c.servers += o.servers
	c.lostFences += o.lostFences
	c.restores += o.restores
	c.stolen += o.stolen
	c.refused += o.refused
	c.orders += o.orders
	c.removed += o.removed
	c.settled = max(c.settled, o.settled)
}

// oracle watches the world from outside and knows what must not be. What the metastore holds it has from the log and the
// catalog of the server, never from those who write to it.
type oracle struct {
	c     *cluster
	count counts
	// broken is the first thing that must not have been; empty as long as all is well.
	broken string

	// seen is up to where the log was read, replicated up to where the standby has it.
	seen, replicated metastore.LSN
	// newest is the highest epoch that has committed, first where it did so first.
	newest uint64
	first  metastore.LSN
	// row is the fence row; owner says whose each epoch that was taken is.
	row    metastore.Row
	owners map[uint64]string
	// lost are grants whose fence went with a failover: the epoch may be somebody else's since, and a start that was under way ends late.
	lost map[grant]bool
	// restored are epochs that the row was put back to by hand: until the next take is seen it is behind the roles.
	restored map[uint64]bool
	// looked is the epoch of the row when the roles were last looked at.
	looked uint64
	// drains are the grants whose drain has ended, starts those that a process was made for.
	drains, starts map[grant]bool
	// lastCommit is when each epoch committed last.
	lastCommit map[uint64]instant
	log        agreement
}

func newOracle(c *cluster) *oracle {
	return &oracle{
		c: c, row: metastore.Row{Key: jobName}, restored: map[uint64]bool{}, owners: map[uint64]string{}, lost: map[grant]bool{}, drains: map[grant]bool{}, starts: map[grant]bool{}, lastCommit: map[uint64]instant{},
		log: newAgreement(),
	}
}

func (o *oracle) fail(format string, args ...any) {
	if o.broken == "" {
		o.broken = fmt.Sprintf("at %s: %s", o.c.w.now, fmt.Sprintf(format, args...))
		o.c.w.trace.say(o.c.w.now, "ORACLE", "%s", o.broken)
	}
}

// look reads what has been committed since the last look.
func (o *oracle) look() {
	s := o.c.pg.timed.Server()
	if s.LastLSN() == o.seen {
		return
	}
	for _, r := range s.Commits(o.seen) {
		o.committed(r)
		o.seen = max(o.seen, r.LSN)
	}
	o.seen = s.LastLSN()
	o.members(s)
}

// reread starts over after a server has lost the end of its log.
func (o *oracle) reread() {
	o.newest = 0
	s := o.c.pg.timed.Server()
	for _, r := range s.Commits(0) {
		if epoch := o.c.pg.epochOf(r.Role); wrote(r, workTable) {
			o.newest = max(o.newest, epoch)
		}
	}
	o.row, o.seen = s.Rows(metastore.FenceTable)[0], s.LastLSN()
	o.replicated = min(o.replicated, o.seen)
}

// promoted starts over on a server that may lack the last fences: their epochs never were. After a restore the row says nothing of
// them any more, and the roles do.
func (o *oracle) promoted() {
	o.reread()
	known := o.row.Epoch
	for _, r := range o.c.pg.timed.Server().Roles() {
		known = max(known, o.c.pg.epochOf(r.Name))
	}
	before := len(o.owners)
	maps.DeleteFunc(o.owners, func(epoch uint64, life string) bool {
		if epoch > known {
			o.lost[grant{epoch, life}] = true
		}
		return epoch > known
	})
	if len(o.owners) < before {
		o.count.lostFences++
	}
}

// putBack starts over on tables that are older than the roles.
func (o *oracle) putBack() {
	o.reread()
	o.restored[o.row.Epoch] = true
}

func wrote(r metastore.Record, table string) bool {
	for _, w := range r.Rows {
		if w.Table == table {
			return true
		}
	}
	return false
}

// committed is the promise, and I8: in commit order nothing of an older epoch follows anything of a newer one.
func (o *oracle) committed(r metastore.Record) {
	for _, w := range r.Rows {
		if w.Table == metastore.FenceTable {
			o.taken(w.Row)
		}
	}
	epoch := o.c.pg.epochOf(r.Role)
	if epoch == 0 || !wrote(r, workTable) {
		return
	}
	o.count.commits++
	if epoch < o.newest {
		o.fail("epoch %d commits (lsn %d, session %d) after epoch %d (lsn %d)", epoch, r.LSN, r.PID, o.newest, o.first)
	}
	if epoch > o.newest {
		o.newest, o.first = epoch, r.LSN
		o.c.say("first commit of epoch %d, lsn %d", epoch, r.LSN)
	}
	o.lastCommit[epoch] = o.c.w.now
}

// taken is I1 and I7.
func (o *oracle) taken(row metastore.Row) {
	if row == o.row {
		return // a repeated take
	}
	o.count.fences++
	o.c.say("fence row is epoch %d of %s", row.Epoch, row.Node)
	life := row.Node + row.Token
	switch other, was := o.owners[row.Epoch]; {
	case row.Epoch <= o.row.Epoch:
		o.fail("I1: the fence row goes from %d to %d", o.row.Epoch, row.Epoch)
	case was && other != life:
		o.fail("I1: epoch %d was of %.8s and is of %.8s now", row.Epoch, other, life)
	case row.Node == "t" || row.Node == "u":
		o.fail("I7: a witness holds epoch %d", row.Epoch)
	}
	if o.row.Epoch > 0 && o.row.Node != row.Node {
		o.count.failovers++
	}
	o.entitled(row.Epoch, life)
	o.row = row
	o.owners[row.Epoch] = life
	o.c.troubleSoon()
	if len(o.c.regroup.changes) > 0 {
		o.c.w.in(o.c.regroup.span(0, 60*time.Millisecond), nil, func() { o.c.goOn(true) })
	}
}

// members is I2: nobody but the row's epoch has the group.
func (o *oracle) members(s *metastore.Server) {
	row := s.Rows(metastore.FenceTable)[0] // as it is seen, which with a standby is later than the log has it
	if o.restored[row.Epoch] {
		return
	}
	for _, m := range s.Memberships() {
		if epoch := o.c.pg.epochOf(m.Member); m.Group == group && epoch != 0 && epoch != row.Epoch {
			o.fail("I2: epoch %d is a member while the row is at %d", epoch, row.Epoch)
		}
	}
	if row.Epoch == o.looked {
		return
	}
	o.looked = row.Epoch
	for _, r := range s.Roles() {
		if epoch := o.c.pg.epochOf(r.Name); r.Login && epoch != 0 && epoch != row.Epoch {
			o.fail("I2: epoch %d can log in while the row is at %d", epoch, row.Epoch)
		}
	}
}

// grant is an epoch of one life.
type grant struct {
	epoch uint64
	life  string
}

func (d *daemon) grant(epoch uint64) grant { return grant{epoch, d.h.name + string(d.token)} }

func (o *oracle) drained(d *daemon, epoch uint64) { o.drains[d.grant(epoch)] = true }

// started is I3, I4, I5, I6 and I9.
func (o *oracle) started(d *daemon, p *process) {
	epoch := p.as.epoch
	mine := d.grant(epoch)
	owner, known := o.owners[epoch]
	switch {
	case !o.drains[mine] && !o.c.faulty.noDrain:
		o.fail("I3: epoch %d starts before its drain has ended", epoch)
	case o.starts[mine]:
		o.fail("I4: epoch %d starts twice", epoch)
	case known && owner != mine.life && !o.lost[mine]:
		o.fail("I5: epoch %d starts on %s, it is of another life", epoch, d.h.name)
	}
	o.starts[mine] = true
	for _, q := range d.h.procs {
		if q != p {
			o.fail("I6: epoch %d starts on %s while epoch %d is alive there", epoch, d.h.name, q.as.epoch)
		}
	}
}

// revived counts a process of an old epoch that goes on after it stood still.
func (o *oracle) revived(p *process) {
	if p.as.epoch < o.row.Epoch {
		o.count.zombies++
	}
}

// turnedAway counts what the metastore did not let an old epoch do.
func (o *oracle) turnedAway(epoch uint64, code metastore.Code) {
	if epoch != 0 && epoch < o.row.Epoch && code != metastore.OK && code != metastore.CodeClosed {
		o.count.refused++
	}
}

// holder is the host that has the fence; nil when nobody has.
func (o *oracle) holder() *host {
	for _, h := range o.c.hosts {
		if h.name == o.row.Node {
			return h
		}
	}
	return nil
}

// serving says whether the epoch of the fence row has committed within some time.
func (o *oracle) serving(within time.Duration) bool {
	at, ok := o.lastCommit[o.row.Epoch]
	return ok && o.c.w.now-at <= within
}
