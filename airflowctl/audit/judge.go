package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// outlivedBy is for how long a fenced process tree may go on before it is remarked on: to end one takes some time.
const outlivedBy = time.Second

// Judge says what the evidence shows. skew is how far apart the clocks of the hosts, of the api-server and of the database may be; what they
// have to be compared for and lies closer together is not judged. Not negative.
func Judge(e Evidence, skew time.Duration) Report {
	slices.SortFunc(e.Events, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	j := &judge{evidence: e, skew: skew, epochs: map[uint64]*Epoch{}}
	j.ledger()
	j.row()
	j.roles()
	j.sessions()
	j.trees()
	j.schedulers()
	j.tries()
	report := Report{Findings: j.findings, Remarks: j.remarks, Unseen: e.Unseen}
	for _, epoch := range j.sorted() {
		report.Epochs = append(report.Epochs, *epoch)
	}
	return report
}

type judge struct {
	evidence Evidence
	skew     time.Duration
	epochs   map[uint64]*Epoch
	takes    []Event // by ID
	findings []Finding
	remarks  []string
}

// mends say where to look.
var mends = map[Kind]string{
	LedgerOrder: "somebody wrote to schema duoflow by hand, or the database was restored or failed over without its newest takes (assumption A1): see who may write there",
	RowDiffers:  "somebody wrote to duoflow.fence by hand, or the database was restored or failed over without its newest takes (assumption A1); the next take of a higher epoch mends the row",
	RoleArmed:   "REVOKE the group FROM this role and ALTER ROLE ... NOLOGIN; see who granted it, and run duoctl metastore doctor",
	OldSession:  "end it: pg_terminate_backend, or ROLLBACK PREPARED; if it comes back, run duoctl metastore doctor",
	Overlap:     "see who started it: a scheduler that is not duoflow's own passes by the fence (assumption A2); if it is duoflow's, run duoctl metastore doctor and keep the ledger",
	TryTwice:    "compare the task's output of both starts, and report it with the lines of table log",
}

func (j *judge) find(kind Kind, epoch uint64, format string, args ...any) {
	j.findings = append(j.findings, Finding{Kind: kind, Epoch: epoch, Detail: fmt.Sprintf(format, args...), Mend: mends[kind]})
}

func (j *judge) remark(format string, args ...any) {
	j.remarks = append(j.remarks, fmt.Sprintf(format, args...))
}

// epoch is the line of the ledger, which is made when it is the first that is heard of it.
func (j *judge) epoch(number uint64, node string) *Epoch {
	if j.epochs[number] == nil {
		j.epochs[number] = &Epoch{Epoch: number, Node: node}
	}
	return j.epochs[number]
}

func (j *judge) sorted() []*Epoch {
	all := make([]*Epoch, 0, len(j.epochs))
	for _, epoch := range j.epochs {
		all = append(all, epoch)
	}
	slices.SortFunc(all, func(a, b *Epoch) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return all
}

// newest is the last take; its Epoch is 0 when there is none.
func (j *judge) newest() Event {
	if len(j.takes) == 0 {
		return Event{}
	}
	return j.takes[len(j.takes)-1]
}

// ledger goes through the lines in the order they were written.
func (j *judge) ledger() {
	for _, e := range j.evidence.Events {
		switch e.Moment {
		case fence.Taken:
			j.taken(e)
		case fence.Released:
			j.released(e)
		case fence.Started, fence.Stopped:
			j.noted(e)
		}
	}
}

func (j *judge) taken(e Event) {
	last := j.newest()
	switch {
	case j.epochs[e.Epoch] != nil && j.epochs[e.Epoch].Known:
		j.find(LedgerOrder, e.Epoch, "epoch %d was taken twice: by %s, then by %s", e.Epoch, j.epochs[e.Epoch].Node, e.Node)
	case e.Epoch <= last.Epoch:
		j.find(LedgerOrder, e.Epoch, "epoch %d (%s) was taken after epoch %d (%s)", e.Epoch, e.Node, last.Epoch, last.Node)
	case e.At.Before(last.At):
		j.remark("the server's clock went back by %s between the takes of epochs %d and %d", short(last.At.Sub(e.At)), last.Epoch, e.Epoch)
	}
	if before := j.epochs[last.Epoch]; before != nil && before.By == 0 && e.Epoch != before.Epoch {
		before.Superseded, before.By = e.At, e.Epoch
	}
	this := j.epoch(e.Epoch, e.Node)
	if !this.Known {
		this.Known, this.Node, this.Taken = true, e.Node, e.At
	}
	j.takes = append(j.takes, e)
}

func (j *judge) released(e Event) {
	if last := j.newest(); e.Epoch < last.Epoch {
		j.find(LedgerOrder, e.Epoch, "epoch %d (%s) was released after epoch %d (%s) was taken", e.Epoch, e.Node, last.Epoch, last.Node)
	}
	j.epoch(e.Epoch, e.Node).Released = e.At
}

// noted is a daemon's own line. The take of the oldest epochs may have left the ledger, which is kept for about 1000 lines.
func (j *judge) noted(e Event) {
	row, known := j.evidence.Row, j.epochs[e.Epoch]
	held := known != nil && known.Known
	switch {
	case held && known.Node != e.Node:
		j.find(LedgerOrder, e.Epoch, "epoch %d was taken by %s, and a process tree of it was on %s", e.Epoch, known.Node, e.Node)
		return
	case !held && len(j.takes) > 0 && e.Epoch >= j.takes[0].Epoch && (row.Epoch != e.Epoch || row.Node != e.Node):
		j.find(LedgerOrder, e.Epoch, "epoch %d had a process tree on %s, and was not taken", e.Epoch, e.Node)
	}
	this := j.epoch(e.Epoch, e.Node)
	if e.Moment == fence.Started {
		this.Started = e.At
	} else {
		this.Stopped = e.At
	}
}

func (j *judge) row() {
	row, last := j.evidence.Row, j.newest()
	switch known := j.epochs[row.Epoch]; {
	case row.Epoch == last.Epoch && (row.Epoch == 0 || row.Node == last.Node):
	case row.Epoch > last.Epoch && known != nil && known.Node == row.Node: // its take has left the ledger
	case last.Epoch == 0:
		j.find(RowDiffers, row.Epoch, "the fence row is at epoch %d of %s, and the ledger has no take", row.Epoch, row.Node)
	default:
		j.find(RowDiffers, row.Epoch, "the fence row is at epoch %d of %s, the newest take is epoch %d of %s", row.Epoch, orDash(row.Node), last.Epoch, last.Node)
	}
}

func (j *judge) roles() {
	row := j.evidence.Row.Epoch
	for _, r := range j.evidence.Roles {
		var can []string
		if r.Login {
			can = append(can, "may log in")
		}
		if r.Member {
			can = append(can, "is a member of "+j.evidence.Group)
		}
		what := strings.Join(can, " and ")
		switch own := j.epochs[r.Epoch]; {
		case !r.armed():
		case r.Epoch != row:
			j.find(RoleArmed, r.Epoch, "role %s %s, and the fence row is at epoch %d", r.Name, what, row)
		case own != nil && !own.Released.IsZero():
			j.find(RoleArmed, r.Epoch, "role %s %s, and its epoch was released", r.Name, what)
		}
	}
}

func (j *judge) sessions() {
	row := j.evidence.Row.Epoch
	for _, s := range j.evidence.Sessions {
		if s.Epoch < row { // a higher one belongs to a take since then
			j.find(OldSession, s.Epoch, "session %d is of epoch %d (%s, since %s), and the fence row is at epoch %d", s.PID, s.Epoch, orDash(s.State), clock(s.Since), row)
		}
	}
	for _, p := range j.evidence.Prepared {
		if p.Epoch < row {
			j.find(OldSession, p.Epoch, "transaction %q is prepared by epoch %d, and the fence row is at epoch %d", p.Name, p.Epoch, row)
		}
	}
}

// trees looks at each host by itself: its daemon writes in order, so no clock is needed there. On two hosts a fenced tree may go on for a while.
func (j *judge) trees() {
	begun := map[string]Event{} // the newest on each host
	for _, e := range j.evidence.Events {
		switch newer := begun[e.Node]; {
		case e.Moment == fence.Started && e.Epoch > newer.Epoch:
			begun[e.Node] = e
		case e.Moment == fence.Stopped && newer.Epoch > e.Epoch:
			j.find(Overlap, e.Epoch, "the process tree of epoch %d on %s was empty only after that of epoch %d had begun there", e.Epoch, e.Node, newer.Epoch)
		}
	}
	for _, e := range j.sorted() {
		if late := e.Stopped.Sub(e.Superseded); e.By != 0 && !e.Stopped.IsZero() && late >= outlivedBy {
			j.remark("the process tree of epoch %d on %s went on for %s after epoch %d was taken, as a fenced one may: it can commit nothing", e.Epoch, e.Node, short(late), e.By)
		}
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func clock(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02T15:04:05.000Z")
}

func short(d time.Duration) string { return d.Round(time.Millisecond).String() }
