package fence

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed setup.sql
var setupTemplate string

//go:embed functions.sql
var functionsSQL string

// Setup says what a job's database needs before it can be fenced.
type Setup struct {
	Jobs    []string // jobs that are fenced in this database; at least one
	Group   string   // role that holds the jobs' rights; made when it is missing
	Fencers []string // logins of the daemons; one that exists keeps its password
	Owner   string   // role that makes the job's tables (migrations): its future ones are granted too; "" = none
	Mirror  bool     // also make table public.duo_flow, which the active epoch writes for people to see

	// Verifiers holds what Verifier makes of each new fencer's password, by login name. A login
	// without one gets no password: the administrator gives it one.
	Verifiers map[string]string
}

// validate reports every fault at once.
func (s Setup) validate() error {
	var faults []error
	if len(s.Jobs) == 0 {
		faults = append(faults, errors.New("no job is named"))
	}
	for _, job := range s.Jobs {
		faults = append(faults, validateNames(s.Group, job))
		if job == doctorJob {
			faults = append(faults, fmt.Errorf("job name %q is kept for the doctor", doctorJob))
		}
	}
	for _, login := range s.Fencers {
		if login == "" || len(login) > maxName {
			faults = append(faults, fmt.Errorf("fencer name %q is empty or longer than %d bytes", login, maxName))
		}
	}
	return errors.Join(faults...)
}

// SetupSQL returns the text that prepares a job's database: one transaction, for every supported
// Postgres, harmless when run again. It needs no superuser beyond what its head says. A Setup that
// Init would refuse gives a text that Postgres refuses.
func SetupSQL(setup Setup) string {
	rows := []string{"(" + quoteText(doctorJob) + ")"}
	for _, job := range setup.Jobs {
		rows = append(rows, "("+quoteText(job)+")")
	}
	var fencers strings.Builder
	for _, login := range setup.Fencers {
		fencers.WriteString(loginSQL(login, setup.Verifiers[login]))
	}
	return strings.NewReplacer(
		"{{group_ident}}", quoteName(setup.Group),
		"{{group}}", quoteText(setup.Group),
		"{{fencers}}", fencers.String(),
		"{{rows}}", strings.Join(rows, ", "),
		"{{functions}}", functionsSQL,
		"{{mirror}}", mirrorSQL(setup),
		"{{owner}}", ownerSQL(setup),
	).Replace(setupTemplate)
}

func loginSQL(login, verifier string) string {
	password, hint := "", fmt.Sprintf("-- Give it a password:  \\password %s\n", quoteName(login))
	if verifier != "" {
		password, hint = " PASSWORD "+quoteText(verifier), ""
	}
	return fmt.Sprintf(`
%sDO $setup$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = %[2]s) THEN
    CREATE ROLE %[3]s LOGIN NOINHERIT%[4]s;
  END IF;
  IF NOT pg_has_role(%[2]s, 'duoflow', 'MEMBER') THEN
    GRANT duoflow TO %[3]s;
  END IF;
  IF current_setting('server_version_num')::int >= 160000 THEN
    BEGIN -- a place on a full server, where reserved_connections is set
      EXECUTE format('GRANT pg_use_reserved_connections TO %%I WITH INHERIT TRUE', %[2]s);
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE NOTICE 'not granted, for want of rights: pg_use_reserved_connections';
    END;
  END IF;
END
$setup$;
`, hint, quoteText(login), quoteName(login), password)
}

func mirrorSQL(setup Setup) string {
	if !setup.Mirror {
		return ""
	}
	return "CREATE TABLE IF NOT EXISTS public.duo_flow (key text PRIMARY KEY, value text);\n"
}

// ownerSQL grants what the owner will make later: a migration must not lock the job out.
func ownerSQL(setup Setup) string {
	if setup.Owner == "" {
		return ""
	}
	return fmt.Sprintf(`ALTER DEFAULT PRIVILEGES FOR ROLE %[1]s IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %[2]s;
ALTER DEFAULT PRIVILEGES FOR ROLE %[1]s IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO %[2]s;
`, quoteName(setup.Owner), quoteName(setup.Group))
}

func quoteName(name string) string { return pgx.Identifier{name}.Sanitize() }

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// Init runs SetupSQL in the database of adminDSN.
func Init(ctx context.Context, adminDSN string, setup Setup) error {
	if err := setup.validate(); err != nil {
		return fmt.Errorf("set up fence: %w", err)
	}
	conn, err := pgx.Connect(ctx, adminDSN)
	if err != nil {
		return fmt.Errorf("set up fence: %w", err)
	}
	defer discard(conn)
	_, err = conn.PgConn().Exec(ctx, SetupSQL(setup)).ReadAll()
	if sqlState(err) == lockNotAvailable {
		return fmt.Errorf("set up fence: %w: a transaction has read duoflow.fence and goes on; nothing was changed, run it again when that has ended", err)
	}
	if err != nil {
		return fmt.Errorf("set up fence: %w", err)
	}
	return nil
}
