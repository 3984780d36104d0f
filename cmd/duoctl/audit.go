package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/airflowctl/audit"
	"github.com/duoflow/duoflow/cmd/grid"
)

// auditPlan is what audit was asked for.
type auditPlan struct {
	read  audit.Config
	skew  time.Duration
	limit int // epochs shown; 0 = all
}

const auditLong = `Audit reads the ledger that the fence keeps in a job's database and says what it shows: who took which epoch when, when its process
tree began and ended, when it was released or superseded, and, of an Airflow metastore, which schedulers ran and how many tries of tasks they queued.
It asks no node, needs no cluster and writes nothing.

Findings, with exit code 1, are what must never be:
  ledger out of order  a take that is not above the one before; a process tree of an epoch that was not taken, or not by that node
  row differs          the fence row is not the newest take
  role armed           the role of an epoch that is over may log in or is a member of the job's group
  old session          it has a session or a prepared transaction
  overlap              a scheduler beat after the next epoch was taken, or beside another one; two process trees on one host
  try ran twice        Airflow let a worker begin the body of one try of a task a second time

Times of the ledger are the server's clock. Airflow's are those of its hosts: what lies closer together than --clock-skew is not judged, and a
scheduler belongs to the epoch that began at that time. The ledger keeps about 1000 lines, and Airflow's log as much as "airflow db clean" has left.

The connection is --dsn, or better DUOCTL_AUDIT_DSN: a command line can be seen by every user of the host. A login that is granted
pg_read_all_data and pg_read_all_stats can see everything. With a fencer's, Airflow's tables cannot be read on PostgreSQL 16 and later; what could not be looked at is named,
and the exit code is then 6.`

func newAudit(a *app) *cobra.Command {
	plan := auditPlan{}
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Judge from outside, by the database alone, what the epochs of a job did",
		Long:  auditLong,
		Example: example("DUOCTL_AUDIT_DSN=postgres://auditor@db1/airflow duoctl audit",
			"duoctl audit --job etl --group lightning --airflow=false -o json",
			`psql -c "CREATE ROLE auditor LOGIN; GRANT pg_read_all_data, pg_read_all_stats TO auditor"    # by the administrator, once`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.audit(cmd.Context(), plan) },
	}
	flags := cmd.Flags()
	flags.StringVar(&plan.read.DSN, "dsn", "", "a connection that may read (default DUOCTL_AUDIT_DSN, then DUOCTL_FENCER_DSN)")
	flags.StringVar(&plan.read.Job, "job", "scheduler", "the job")
	flags.StringVar(&plan.read.Group, "group", "airflow", "group role that holds the job's rights")
	flags.BoolVar(&plan.read.Airflow, "airflow", true, "look at Airflow's tables too, if they are there")
	flags.DurationVar(&plan.skew, "clock-skew", 2*time.Second, "how far apart the clocks of hosts and database may be")
	flags.IntVar(&plan.limit, "limit", 20, "show so many epochs, the newest; 0: all. All are judged")
	return cmd
}

func (a *app) audit(ctx context.Context, plan auditPlan) error {
	plan.read.DSN = first(plan.read.DSN, a.env("DUOCTL_AUDIT_DSN"), a.env("DUOCTL_FENCER_DSN"))
	if plan.read.DSN == "" {
		return usage("the connection of the auditor is missing", "set DUOCTL_AUDIT_DSN or --dsn")
	}
	where, err := describeDSN(plan.read.DSN)
	switch {
	case err != nil:
		return err
	case plan.skew < 0 || plan.limit < 0:
		return usage("--clock-skew or --limit is negative", "see duoctl audit --help")
	}
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	evidence, err := audit.Read(ctx, plan.read)
	if err != nil {
		return fmt.Errorf("audit %s: %w", where, err)
	}
	report := audit.Judge(evidence, plan.skew)
	found, complete := len(report.Findings), report.Complete()
	hidden := 0
	if plan.limit > 0 && len(report.Epochs) > plan.limit {
		hidden = len(report.Epochs) - plan.limit
		report.Epochs = report.Epochs[hidden:]
	}
	err = a.print(auditObject(where, evidence, report, hidden), func(w io.Writer) {
		fmt.Fprintf(w, "job %s in %s, %s\n", evidence.Job, where, timeText(evidence.At))
		writeAudit(w, report, hidden)
	})
	switch {
	case err != nil:
		return err
	case found > 0:
		return failed(fmt.Sprintf("findings: %d", found), "follow the advice below the findings")
	case !complete:
		return &failure{code: exitStale, what: "nothing was found, and not everything could be looked at", mend: "use a login that is granted pg_read_all_data and pg_read_all_stats"}
	}
	return nil
}

func writeAudit(w io.Writer, report audit.Report, hidden int) {
	if hidden > 0 {
		fmt.Fprintf(w, "older epochs that are not shown: %d\n", hidden)
	}
	ledger := &grid.Grid{Head: []string{"EPOCH", "NODE", "TAKEN", "STARTED", "STOPPED", "RELEASED", "SUPERSEDED", "BY", "TRIES"}}
	rows := &grid.Grid{Head: []string{"EPOCH", "ROW", "HOST", "STATE", "START", "LAST HEARTBEAT", "END"}}
	schedulers := 0
	for _, e := range report.Epochs {
		tries := grid.Dash
		if len(e.Schedulers) > 0 {
			tries = fmt.Sprint(e.Tries)
		}
		ledger.Add(epochText(e.Epoch), grid.OrDash(e.Node), timeText(e.Taken), timeText(e.Started), timeText(e.Stopped), timeText(e.Released),
			timeText(e.Superseded), epochText(e.By), tries)
		for _, s := range e.Schedulers {
			schedulers++
			rows.Add(epochText(e.Epoch), fmt.Sprint(s.ID), grid.OrDash(s.Host), grid.OrDash(s.State), timeText(s.Start), timeText(s.Beat), timeText(s.End))
		}
	}
	ledger.Write(w)
	if schedulers > 0 {
		fmt.Fprintln(w, "schedulers:")
		rows.Write(w)
	}
	for _, remark := range report.Remarks {
		fmt.Fprintf(w, "remark: %s\n", remark)
	}
	for _, u := range report.Unseen {
		fmt.Fprintf(w, "not looked at: %s: %s\n", u.What, u.Why)
	}
	if len(report.Findings) == 0 {
		fmt.Fprintln(w, "findings: none")
		return
	}
	writeFaults(w, report.Findings)
}

// writeFaults says below the table, once for each kind, what to do.
func writeFaults(w io.Writer, findings []audit.Finding) {
	g := &grid.Grid{Head: []string{"EPOCH", "FINDING", "DETAIL"}}
	var mends []string
	for _, f := range findings {
		g.Add(epochText(f.Epoch), string(f.Kind), f.Detail)
		if mend := fmt.Sprintf("to mend %q: %s", f.Kind, f.Mend); !slices.Contains(mends, mend) {
			mends = append(mends, mend)
		}
	}
	g.Write(w)
	fmt.Fprintln(w, strings.Join(mends, "\n"))
}

func auditObject(where string, e audit.Evidence, report audit.Report, hidden int) object {
	epochs, findings, unseen := []any{}, []any{}, []any{}
	for _, e := range report.Epochs {
		schedulers := []any{}
		for _, s := range e.Schedulers {
			schedulers = append(schedulers, object{{"row", s.ID}, {"host", s.Host}, {"state", s.State}, {"start", timeOrNull(s.Start)},
				{"last_heartbeat", timeOrNull(s.Beat)}, {"end", timeOrNull(s.End)}})
		}
		epochs = append(epochs, object{{"epoch", e.Epoch}, {"node", e.Node}, {"taken", timeOrNull(e.Taken)}, {"started", timeOrNull(e.Started)},
			{"stopped", timeOrNull(e.Stopped)}, {"released", timeOrNull(e.Released)}, {"superseded", timeOrNull(e.Superseded)}, {"superseded_by", e.By},
			{"tries", e.Tries}, {"schedulers", schedulers}})
	}
	for _, f := range report.Findings {
		findings = append(findings, object{{"epoch", f.Epoch}, {"kind", string(f.Kind)}, {"detail", f.Detail}, {"mend", f.Mend}})
	}
	for _, u := range report.Unseen {
		unseen = append(unseen, object{{"what", u.What}, {"why", u.Why}, {"absent", u.Absent}})
	}
	return object{{"database", where}, {"job", e.Job}, {"group", e.Group}, {"at", timeOrNull(e.At)}, {"log_from", timeOrNull(e.LogFrom)}, {"complete", report.Complete()},
		{"epochs_not_shown", hidden}, {"epochs", epochs}, {"findings", findings}, {"remarks", list(report.Remarks)}, {"not_looked_at", unseen}}
}

const timeForm = "2006-01-02T15:04:05.000Z"

func timeText(at time.Time) string {
	if at.IsZero() {
		return grid.Dash
	}
	return at.UTC().Format(timeForm)
}

func timeOrNull(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at.UTC().Format(timeForm)
}
