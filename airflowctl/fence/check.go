package fence

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// ModeFenced: an old epoch cannot write after a new one has begun.
	ModeFenced = "fenced"
	// ModeLeaseOnly: something is missing, so only timing keeps two epochs apart. UNSAFE.
	ModeLeaseOnly = "lease-only"

	insufficientPrivilege = "42501"
	undefinedFunction     = "42883"
	undefinedTable        = "42P01"
	// explainTimeout bounds the look for the reason of a refusal, which nobody should wait for.
	explainTimeout = 2 * time.Second
)

// Report says whether the fence holds in this database.
type Report struct {
	Mode     string    // ModeFenced when every finding about the fence is OK, else ModeLeaseOnly
	Findings []Finding // in the order they were looked at
}

// Finding is one thing that was looked at.
type Finding struct {
	Name   string
	OK     bool
	Detail string // what was seen
	Mend   string // what the administrator can do; "" when OK, except for advice
	aside  bool   // not about the fence, so it does not turn the mode
}

// advise adds a finding that does not touch the fence and so does not turn the mode; its Mend stays.
func (r *Report) advise(name, detail, mend string) {
	r.add(name, true, detail, "")
	r.Findings[len(r.Findings)-1].Mend = mend
}

func (r *Report) add(name string, ok bool, detail, mend string) {
	r.put(Finding{Name: name, OK: ok, Detail: detail, Mend: mend})
}

func (r *Report) put(finding Finding) {
	if finding.OK {
		finding.Mend = ""
	}
	r.Findings = append(r.Findings, finding)
	r.Mode = ModeFenced
	for _, finding := range r.Findings {
		if !finding.OK && !finding.aside {
			r.Mode = ModeLeaseOnly
		}
	}
}

// fenced says whether every finding about the fence is OK so far.
func (r *Report) fenced() bool { return r.Mode == ModeFenced }

// question is one look at the catalogs; SQL gives (ok, detail) for @job and @group.
type question struct{ name, sql, mend string }

const runSetup = "run the set-up (duoctl metastore init) in this database for this job and group"

var questions = []question{
	{"server is a supported primary",
		`SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off'
		   AND current_setting('server_version_num')::int >= 140000,
		 format('version %s, %s', current_setting('server_version'), CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END)`,
		"name the primary in the DSN (target_session_attrs=read-write); Postgres 14 is the oldest supported"},
	{"duoflow may make roles",
		`SELECT coalesce(bool_and(rolcreaterole AND NOT rolsuper), false), 'CREATEROLE of ' || current_user FROM pg_roles WHERE rolname = current_user`,
		"ALTER ROLE duoflow CREATEROLE"},
	{"group is a plain role",
		`SELECT count(*) = 1 AND bool_and(NOT rolcanlogin AND NOT rolsuper), coalesce(string_agg('role ' || rolname, ''), 'no role ' || @group)
		 FROM pg_roles WHERE rolname = @group`,
		runSetup + "; the group must be NOLOGIN and no superuser"},
	{"duoflow may grant the group",
		`SELECT coalesce(bool_or(pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION')), false), 'ADMIN OPTION on ' || @group
		 FROM pg_roles WHERE rolname = @group`,
		"GRANT the group TO duoflow WITH ADMIN OPTION"},
	{"duoflow may end sessions",
		`SELECT pg_has_role(current_user, 'pg_signal_backend', 'USAGE'), 'pg_signal_backend'`,
		"GRANT pg_signal_backend TO duoflow"},
	{"duoflow may see sessions",
		`SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'), 'pg_read_all_stats'`,
		"GRANT pg_read_all_stats TO duoflow"},
	{"nobody writes by PUBLIC",
		`SELECT count(*) = 0, coalesce('writable by everybody: ' || string_agg(found.name, ', '), 'no table is writable by everybody')
		 FROM (SELECT DISTINCT c.oid::regclass::text AS name FROM pg_class c,
		         LATERAL (SELECT * FROM aclexplode(c.relacl) UNION ALL
		                  SELECT x.* FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = c.oid AND NOT a.attisdropped) g
		       WHERE c.relkind IN ('r', 'p', 'v') AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
		         AND g.grantee = 0 AND g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE') ORDER BY 1 LIMIT 10) found`,
		"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON these tables FROM PUBLIC: a fenced role keeps PUBLIC's rights"},
	{"epoch roles own nothing",
		`SELECT count(*) = 0, coalesce('owners: ' || string_agg(found.name, ', '), 'no object belongs to an epoch role')
		 FROM (SELECT DISTINCT r.rolname AS name FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
		         LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
		       WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND c.relpersistence IS DISTINCT FROM 't'
		         AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND starts_with(r.rolname, format('df_%s_%s_e', @group::text, @job::text)) ORDER BY 1 LIMIT 10) found`,
		"REASSIGN OWNED BY these roles TO the owner of the tables, and REVOKE CREATE ON the schema: a fenced role can write what it owns"},
	{"epoch roles have no other rights",
		`SELECT count(*) = 0, coalesce('members elsewhere: ' || string_agg(found.name, ', '), 'member of the group only')
		 FROM (SELECT DISTINCT r.rolname AS name FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
		       WHERE starts_with(r.rolname, format('df_%s_%s_e', @group::text, @job::text)) AND g.rolname <> @group ORDER BY 1 LIMIT 10) found`,
		"REVOKE the other memberships of these roles: the fence does not take them away"},
}

// advice are the questions whose answer does not touch the fence: SQL gives (needs it, detail).
var advice = []question{
	{"fencer gets a connection on a full server",
		`SELECT current_setting('server_version_num')::int >= 160000
		   AND NOT (coalesce(current_setting('reserved_connections', true), '0')::int > 0
		     AND coalesce((SELECT pg_has_role(session_user, oid, 'USAGE') FROM pg_roles WHERE rolname = 'pg_use_reserved_connections'), false)),
		 format('max_connections %s, reserved_connections %s', current_setting('max_connections'), coalesce(current_setting('reserved_connections', true), 'not before Postgres 16'))`,
		"set reserved_connections = 8 and GRANT pg_use_reserved_connections TO the fencers' logins WITH INHERIT TRUE: without it a fencer that has to connect waits for a free one"},
	{"a failover keeps the fence",
		`SELECT standbys.n > 0 AND current_setting('synchronous_standby_names') = '',
		   format('%s standbys, synchronous_standby_names %L', standbys.n, current_setting('synchronous_standby_names'))
		 FROM (SELECT count(*) AS n FROM pg_stat_replication r WHERE r.state IS DISTINCT FROM 'backup'
		         AND NOT EXISTS (SELECT 1 FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')) standbys`,
		"name standbys in synchronous_standby_names, and promote only one that has every commit: where a failover forgets the last fence, an old scheduler may write until the next one"},
	{"nothing writes on PUBLIC's behalf",
		`SELECT count(*) > 0, coalesce('SECURITY DEFINER, executable by everybody: ' || string_agg(found.name, ', '), 'no SECURITY DEFINER function is executable by everybody')
		 FROM (SELECT p.oid::regprocedure::text AS name FROM pg_proc p
		       WHERE p.prosecdef AND p.provolatile = 'v' AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
		         AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
		         AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
		         AND EXISTS (SELECT 1 FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) g WHERE g.grantee = 0 AND g.privilege_type = 'EXECUTE')
		       ORDER BY 1 LIMIT 10) found`,
		"if one of these writes tables of the job: REVOKE EXECUTE ON it FROM PUBLIC and GRANT it TO the group; a fenced role that is still connected can call it"},
}

func (f *Fencer) giveAdvice(ctx context.Context, conn *pgx.Conn, report *Report) error {
	for _, q := range advice {
		var needed bool
		var detail string
		if err := conn.QueryRow(ctx, q.sql).Scan(&needed, &detail); err != nil {
			return fmt.Errorf("check %s: %w", q.name, err)
		}
		if needed {
			report.advise(q.name, detail, q.mend)
		} else {
			report.add(q.name, true, detail, "")
		}
	}
	return nil
}

// explain adds to a refusal of the server what Check finds missing: "permission denied" alone does
// not say whose right, and who can give it.
// A function that is not there is one of this version, on a set-up of the one before.
func (f *Fencer) explain(err error) error {
	if sqlState(err) == undefinedFunction {
		return fmt.Errorf("%w: %s", err, runSetup)
	}
	if sqlState(err) != insufficientPrivilege {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), explainTimeout)
	defer cancel()
	report, checkErr := f.Check(ctx)
	if checkErr != nil {
		return err
	}
	for _, finding := range report.Findings {
		if !finding.OK {
			err = fmt.Errorf("%w; missing: %s (%s): %s", err, finding.Name, finding.Detail, finding.Mend)
		}
	}
	return err
}

// Check looks at rights and set-up without changing anything; Doctor goes further. The error is for
// a server that cannot be asked, not for what is found.
func (f *Fencer) Check(ctx context.Context) (Report, error) {
	var report Report
	conn, err := f.dialBare(ctx)
	if err != nil {
		if code := sqlState(err); code == "42501" || code == "22023" || code == "42704" {
			report.add("fencer acts as duoflow", false, err.Error(), "GRANT duoflow TO the fencer's login, or "+runSetup)
			return report, nil
		}
		return report, fmt.Errorf("check fence: %w", err)
	}
	defer discard(conn)
	report.add("fencer acts as duoflow", true, "SET ROLE "+grantor, "")
	if err := checkDirect(ctx, conn, &report); err != nil {
		return report, err
	}
	names := pgx.NamedArgs{"job": f.config.Job, "group": f.config.Group}
	for _, q := range questions {
		var ok bool
		var detail string
		if err := conn.QueryRow(ctx, q.sql, names).Scan(&ok, &detail); err != nil {
			return report, fmt.Errorf("check %s: %w", q.name, err)
		}
		report.add(q.name, ok, detail, q.mend)
	}
	if err := f.giveAdvice(ctx, conn, &report); err != nil {
		return report, err
	}
	if err := f.checkFunctions(ctx, conn, &report); err != nil {
		return report, err
	}
	if err := f.checkRuns(ctx, conn, &report); err != nil {
		return report, err
	}
	return report, f.checkRow(ctx, conn, &report)
}

// checkRuns looks for the table that a job with a schedule cannot run without.
func (f *Fencer) checkRuns(ctx context.Context, conn *pgx.Conn, report *Report) error {
	const name = "job can note its scheduled runs"
	if !f.config.Runs {
		return nil
	}
	var ok bool
	err := conn.QueryRow(ctx, `SELECT coalesce(bool_or(has_table_privilege(g.oid, c.oid, 'SELECT') AND has_table_privilege(g.oid, c.oid, 'INSERT')
		  AND has_table_privilege(g.oid, c.oid, 'DELETE') AND has_column_privilege(g.oid, c.oid, 'state', 'UPDATE')), false)
		FROM pg_roles g, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE g.rolname = $1 AND n.nspname = 'duoflow' AND c.relname = 'run'`, f.config.Group).Scan(&ok)
	if err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	detail := "table duoflow.run"
	if !ok {
		detail = "the job has a schedule, and table duoflow.run is missing or the group may not write it"
	}
	report.put(Finding{Name: name, OK: ok, Detail: detail, Mend: runSetup + "; it adds what is missing and changes nothing else", aside: true})
	return nil
}

// checkDirect finds a pooler in between: it hands out process ids of its own. The fencer's SET ROLE
// would not be its session's alone, and who blocks it is looked for by its process id.
func checkDirect(ctx context.Context, conn *pgx.Conn, report *Report) error {
	const name = "fencer reaches the server itself"
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return fmt.Errorf("check %s: %w", name, err)
	}
	report.add(name, pid == conn.PgConn().PID(), fmt.Sprintf("session is process %d, the server says %d", conn.PgConn().PID(), pid),
		"name the server, not a pooler, in the fencer's DSN; the job may go through one")
	return nil
}

var functionPattern = regexp.MustCompile(`(?s)FUNCTION duoflow\.(\w+)\(.*?AS \$duoflow\$(.*?)\$duoflow\$`)

// checkFunctions compares the server's functions with those of this program, to the letter.
func (f *Fencer) checkFunctions(ctx context.Context, conn *pgx.Conn, report *Report) error {
	const name = "server functions are this version's"
	for _, function := range functionPattern.FindAllStringSubmatch(functionsSQL, -1) {
		var same, callable bool
		err := conn.QueryRow(ctx, `SELECT coalesce(bool_or(p.prosrc = $2), false), coalesce(bool_or(has_function_privilege(p.oid, 'EXECUTE')), false)
			FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'duoflow' AND p.proname = $1`,
			function[1], function[2]).Scan(&same, &callable)
		if err != nil {
			return fmt.Errorf("check %s: %w", name, err)
		}
		if !same || !callable {
			report.add(name, false, "duoflow."+function[1]+" is missing, differs or may not be called", runSetup)
			return nil
		}
	}
	report.add(name, true, "all match", "")
	return nil
}

func (f *Fencer) checkRow(ctx context.Context, conn *pgx.Conn, report *Report) error {
	const name = "job has its fence row"
	rows := 0
	err := conn.QueryRow(ctx, "SELECT count(*) FROM duoflow.fence WHERE job IN ($1, $2)", f.config.Job, doctorJob).Scan(&rows)
	switch code := sqlState(err); {
	case code == undefinedTable || code == insufficientPrivilege || code == "3F000":
		report.add(name, false, err.Error(), runSetup)
	case err != nil:
		return fmt.Errorf("check %s: %w", name, err)
	default:
		want := 2
		if f.config.Job == doctorJob {
			want = 1
		}
		report.add(name, rows == want, fmt.Sprintf("%d of the rows of %s and %s in duoflow.fence", rows, f.config.Job, doctorJob), runSetup)
	}
	return nil
}
