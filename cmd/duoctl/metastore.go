package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/airflowctl/fence"
	"github.com/duoflow/duoflow/cmd/grid"
)

// setupPlan is what metastore init was asked for.
type setupPlan struct {
	adminDSN      string
	setup         fence.Setup
	passwordFiles []string // NAME=FILE
	print, yes    bool
}

func newMetastore(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "metastore",
		Short:   "Prepare and examine the database that fences a job",
		Example: example("duoctl metastore init --print --fencer fencer_a --fencer fencer_b --owner airflow_owner"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMetastoreInit(a), newMetastoreDoctor(a), newMetastoreSeal(a))
	return cmd
}

const metastoreInitLong = `Init makes what the fence needs in a job's database: the group role that holds the job's rights, the role and
schema duoflow, and a login for each daemon. All of it is one transaction; running it again is harmless.

--print (or --dry-run) only shows the SQL, for an administrator who wants to read or run it.

It connects as the database's administrator, with --admin-dsn or better DUOCTL_ADMIN_DSN: a command line can be
seen by every user of the host. A PGPASSFILE works too. The password of a new fencer comes from
--password-file NAME=FILE, or from DUOCTL_PASSWORD_NAME with the name in capitals; the database gets only its SCRAM
verifier. A fencer without one gets no password, and one that exists keeps its own.`

func newMetastoreInit(a *app) *cobra.Command {
	plan := setupPlan{}
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the roles, the schema and the rights that the fence needs",
		Long:  metastoreInitLong,
		Example: example(
			"duoctl metastore init --print --fencer fencer_a --fencer fencer_b --owner airflow_owner > setup.sql",
			"DUOCTL_ADMIN_DSN=postgres://postgres@db1/airflow duoctl metastore init --owner airflow_owner \\",
			"    --fencer fencer_a --password-file fencer_a=a.pw --fencer fencer_b --password-file fencer_b=b.pw",
			"duoctl metastore init --job etl --group lightning --mirror=false --fencer fencer_a --print"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.metastoreInit(cmd.Context(), plan) },
	}
	flags := cmd.Flags()
	flags.StringVar(&plan.adminDSN, "admin-dsn", "", "the administrator's connection (default DUOCTL_ADMIN_DSN)")
	flags.StringArrayVar(&plan.setup.Jobs, "job", []string{"scheduler"}, "job that is fenced in this database; repeatable")
	flags.StringVar(&plan.setup.Group, "group", "airflow", "group role that holds the job's rights; of this cluster alone")
	flags.StringVar(&plan.setup.Owner, "owner", "", "role that makes the job's tables, so that its future ones are granted too")
	flags.StringArrayVar(&plan.setup.Fencers, "fencer", nil, "login of a daemon; repeatable")
	flags.StringArrayVar(&plan.passwordFiles, "password-file", nil, "NAME=FILE, a new fencer's password; repeatable")
	flags.BoolVar(&plan.setup.Mirror, "mirror", true, "also make table public.duo_flow, which the active epoch writes for people")
	flags.BoolVar(&plan.print, "print", false, "show the SQL, change nothing")
	flags.BoolVar(&plan.print, "dry-run", false, "the same as --print")
	flags.BoolVarP(&plan.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) metastoreInit(ctx context.Context, plan setupPlan) error {
	if err := plan.check(); err != nil {
		return err
	}
	verifiers, err := a.verifiers(plan)
	if err != nil {
		return err
	}
	plan.setup.Verifiers = verifiers
	if plan.print {
		sql := fence.SetupSQL(plan.setup)
		return a.print(object{{"sql", sql}}, func(io.Writer) { fmt.Fprint(a.out, sql) })
	}
	return a.runSetup(ctx, plan)
}

func (a *app) runSetup(ctx context.Context, plan setupPlan) error {
	dsn := first(plan.adminDSN, a.env("DUOCTL_ADMIN_DSN"))
	where, err := describeDSN(dsn)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("set up the fence of job %s with group role %s in %s",
		strings.Join(plan.setup.Jobs, ", "), plan.setup.Group, where)
	if !plan.yes {
		if err := a.confirm(ctx, what+"?"); err != nil {
			return err
		}
	}
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	if err := fence.Init(ctx, dsn, plan.setup); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	answer := object{
		{"database", where}, {"jobs", plan.setup.Jobs}, {"group", plan.setup.Group}, {"fencers", list(plan.setup.Fencers)},
	}
	return a.print(answer, func(w io.Writer) {
		fmt.Fprintf(w, "done: %s\n", what)
		for _, name := range plan.setup.Fencers {
			if _, ok := plan.setup.Verifiers[name]; !ok {
				fmt.Fprintf(w, "%s: no password was given; if the login is new, give it one\n", name)
			}
		}
	})
}

// list is never null in JSON.
func list(names []string) []string { return append([]string{}, names...) }

// check reports what the database would refuse, and slips of the command line, at once.
func (p setupPlan) check() error {
	var errs []error
	if len(p.setup.Fencers) == 0 {
		errs = append(errs, errors.New("--fencer is missing: without one no daemon could fence"))
	}
	for _, job := range p.setup.Jobs {
		if !namePattern.MatchString(job) {
			errs = append(errs, fmt.Errorf("--job %q does not match %s", job, namePattern))
		}
	}
	for i, name := range p.setup.Fencers {
		if slices.Contains(p.setup.Fencers[:i], name) {
			errs = append(errs, fmt.Errorf("--fencer %q is given twice", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return usage(strings.ReplaceAll(err.Error(), "\n", "; "), "see duoctl metastore init --help")
	}
	return nil
}

// verifiers makes one per fencer whose password is given.
func (a *app) verifiers(plan setupPlan) (map[string]string, error) {
	passwords := map[string]string{}
	for _, name := range plan.setup.Fencers {
		if password := a.env(passwordVariable(name)); password != "" {
			passwords[name] = password
		}
	}
	for _, text := range plan.passwordFiles {
		name, path, found := strings.Cut(text, "=")
		if !found || !slices.Contains(plan.setup.Fencers, name) {
			return nil, usage(fmt.Sprintf("--password-file %q is not NAME=FILE of a --fencer", text), "see duoctl metastore init --help")
		}
		password, err := os.ReadFile(path)
		if err != nil {
			return nil, usage(fmt.Sprintf("read password of %s: %v", name, err), "check --password-file")
		}
		passwords[name] = strings.TrimRight(string(password), "\r\n")
	}
	verifiers := map[string]string{}
	for name, password := range passwords {
		verifier, err := fence.Verifier(password)
		if err != nil || password == "" {
			return nil, usage(fmt.Sprintf("the password of %s is empty or not printable ASCII", name), "choose another one")
		}
		verifiers[name] = verifier
	}
	return verifiers, nil
}

// passwordVariable is the environment variable of a fencer's password.
func passwordVariable(name string) string {
	return "DUOCTL_PASSWORD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// describeDSN says in words where a connection goes, without its password. The parser's own error is
// not shown: it quotes what it could not read.
func describeDSN(dsn string) (string, error) {
	if dsn == "" {
		return "", usage("the connection of the administrator is missing", "set DUOCTL_ADMIN_DSN or --admin-dsn, or use --print")
	}
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return "", usage("the connection string cannot be read", "write it like postgres://user@host:5432/database")
	}
	return fmt.Sprintf("database %s at %s:%d as %s", grid.OrDash(config.Database), config.Host, config.Port, config.User), nil
}
