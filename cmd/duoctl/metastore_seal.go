package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/cmd/grid"
)

const metastoreSealLong = `Seal is for a database server that was restored from a backup. Such a server believes what it believed then: the credentials of the epoch of
then, which were taken back since, are good again, until the next epoch is fenced. Seal takes them back, and ends the sessions that have
them. Run it before the server is opened to anybody: started with another listen_addresses or pg_hba.conf, for instance.

It is also for new nodes without a backup, where a cluster was restored or recovered before: seal forgets that the fence is a later life's.

The nodes need not be told. They see the older row, and the next epoch is above all that they and the server know. Whatever runs under an
epoch ends with its sessions and is granted anew. It connects with --admin-dsn or DUOCTL_ADMIN_DSN; a fencer's own login will do as well.`

// sealPlan is what metastore seal was asked for.
type sealPlan struct {
	dsn, group  string
	jobs        []string
	dryRun, yes bool
}

func newMetastoreSeal(a *app) *cobra.Command {
	plan := sealPlan{}
	cmd := &cobra.Command{
		Use:     "seal",
		Short:   "Shut every epoch of a database server that was restored from a backup",
		Long:    metastoreSealLong,
		Example: example("DUOCTL_ADMIN_DSN=postgres://postgres@localhost/airflow duoctl metastore seal --job scheduler --group airflow"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.metastoreSeal(cmd.Context(), plan) },
	}
	flags := cmd.Flags()
	flags.StringVar(&plan.dsn, "admin-dsn", "", "the administrator's connection (default DUOCTL_ADMIN_DSN)")
	flags.StringArrayVar(&plan.jobs, "job", []string{"scheduler"}, "job that is fenced in this database; repeatable")
	flags.StringVar(&plan.group, "group", "airflow", "group role that holds the job's rights")
	flags.BoolVar(&plan.dryRun, "dry-run", false, "say what would be done, and do nothing")
	flags.BoolVarP(&plan.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) metastoreSeal(ctx context.Context, plan sealPlan) error {
	dsn := first(plan.dsn, a.env("DUOCTL_ADMIN_DSN"))
	where, err := describeDSN(dsn)
	if err != nil {
		return err
	}
	for _, job := range plan.jobs {
		if !namePattern.MatchString(job) {
			return usage(fmt.Sprintf("--job %q does not match %s", job, namePattern), "see duoctl metastore seal --help")
		}
	}
	what := fmt.Sprintf("shut every epoch of job %s in %s", strings.Join(plan.jobs, ", "), where)
	if plan.dryRun {
		return a.print(object{{"database", where}, {"jobs", sealedObject(plan.jobs, nil)}, {"done", false}}, func(w io.Writer) { fmt.Fprintf(w, "would %s\n", what) })
	}
	if !plan.yes {
		if err := a.confirm(ctx, what+"? Whatever runs there ends."); err != nil {
			return err
		}
	}
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	var all []fence.Sealed
	for _, job := range plan.jobs {
		sealed, err := fence.Seal(ctx, dsn, job, plan.group)
		if err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		all = append(all, sealed)
	}
	return a.print(object{{"database", where}, {"jobs", sealedObject(plan.jobs, all)}, {"done", true}}, func(w io.Writer) {
		g := &grid.Grid{Head: []string{"JOB", "ROW", "SHUT", "SESSIONS ENDED"}}
		for i, s := range all {
			g.Add(plan.jobs[i], epochText(s.Row.Epoch), grid.OrDash(strings.Join(s.Roles, ", ")), fmt.Sprint(s.Ended))
		}
		g.Write(w)
	})
}

func sealedObject(jobs []string, all []fence.Sealed) []any {
	list := []any{}
	for i, job := range jobs {
		var s fence.Sealed
		if i < len(all) {
			s = all[i]
		}
		list = append(list, object{{"job", job}, {"row_epoch", s.Row.Epoch}, {"shut", append([]string{}, slices.Clone(s.Roles)...)}, {"sessions_ended", s.Ended}})
	}
	return list
}
