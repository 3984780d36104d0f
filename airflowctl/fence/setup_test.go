package fence_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

func TestSetupCanBeRunAgainAndKeepsTheEpoch(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	session := login(t, take(t, f, claim(5, "a")))
	for range 2 {
		if err := fence.Init(t.Context(), b.adminDSN(), fence.Setup{Jobs: []string{job, "etl"}, Group: b.group, Mirror: true}); err != nil {
			t.Fatal(err)
		}
	}
	mustExec(t, session, insertW, 5)
	mustExec(t, session, "INSERT INTO public.duo_flow VALUES ('scheduler', 'a')")
	if got := b.query("SELECT string_agg(job || epoch, ' ' ORDER BY job) FROM duoflow.fence"); got != "doctor0 etl0 scheduler5" {
		t.Errorf("rows = %s", got)
	}
	take(t, f, claim(6, "a"))
}

// A managed server gives no superuser: an administrator with just what the text asks for is enough.
func TestSetupNeedsNoSuperuser(t *testing.T) {
	b := newBench(t) // for its database and names only
	group := b.group + "m"
	mustExec(t, b.admin, "DROP SCHEMA duoflow CASCADE")
	mustExec(t, b.admin, "DROP TABLE public.w")
	dba, owner := "dba_"+group, "owner_"+group
	mustExec(t, b.admin, "CREATE ROLE "+dba+" LOGIN CREATEROLE PASSWORD 'pw'")
	mustExec(t, b.admin, "GRANT pg_signal_backend, pg_read_all_stats TO "+dba+" WITH ADMIN OPTION")
	mustExec(t, b.admin, "ALTER DATABASE "+b.database+" OWNER TO "+dba)
	mustExec(t, b.admin, "ALTER SCHEMA public OWNER TO "+dba)
	if setOptions() { // the role duoflow is shared by this server's tests and was made by another
		mustExec(t, b.admin, "GRANT duoflow TO "+dba+" WITH ADMIN TRUE, SET FALSE, INHERIT FALSE")
	}
	admin := open(t, server.DSN(dba, "pw", b.database))
	mustExec(t, admin, "CREATE ROLE "+owner)
	mustExec(t, admin, "GRANT "+owner+" TO "+dba)
	mustExec(t, admin, "GRANT CREATE ON SCHEMA public TO "+owner)

	verifier, err := fence.Verifier("p'w")
	if err != nil {
		t.Fatal(err)
	}
	fencer := "fencer_" + group
	setup := fence.Setup{Jobs: []string{job}, Group: group, Fencers: []string{fencer}, Verifiers: map[string]string{fencer: verifier}, Owner: owner, Mirror: true}
	if _, err := admin.PgConn().Exec(t.Context(), fence.SetupSQL(setup)).ReadAll(); err != nil {
		t.Fatal(err)
	}
	if super := b.query("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper"); super != "postgres" {
		t.Errorf("superusers: %s", super)
	}
	b.group = group
	f := b.fencer(server.DSN(fencer, "p'w", b.database))
	report, err := f.Doctor(t.Context())
	if err != nil || report.Mode != fence.ModeFenced {
		t.Fatalf("doctor says %+v, %v", report, err)
	}
	session := login(t, take(t, f, claim(1, "a")))
	// A table that a migration makes later must be open to the job.
	mustExec(t, admin, "SET ROLE "+owner)
	mustExec(t, admin, "CREATE TABLE public.later (id bigserial, epoch bigint)")
	mustExec(t, session, "INSERT INTO public.later (epoch) VALUES (1)")
	mustExec(t, session, "INSERT INTO public.duo_flow VALUES ('k', 'v')")
	take(t, f, claim(2, "a"))
	_, err = session.Exec(t.Context(), "INSERT INTO public.later (epoch) VALUES (1)")
	wantCode(t, "old write", err, "57P01", "closed")
}

func TestInitReportsEveryFault(t *testing.T) {
	err := fence.Init(t.Context(), "host=127.0.0.1 port=1", fence.Setup{Jobs: []string{"doctor", "Etl"}, Group: "Big", Fencers: []string{""}})
	for _, want := range []string{`"doctor" is kept`, `"Etl" does not match`, `"Big" does not match`, "fencer name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %s", err, want)
		}
	}
}

func TestDoctorPerformsAFence(t *testing.T) {
	b := newBench(t)
	f := b.fencer(b.a)
	session := login(t, take(t, f, claim(3, "a")))
	mustExec(t, session, "CREATE TEMP TABLE staging (x int)") // owned by the epoch role, and harmless
	for range 2 {
		report, err := f.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if report.Mode != fence.ModeFenced || len(report.Findings) < 15 {
			t.Errorf("report = %+v", report)
		}
		if got := finding(report, "old session's next write is refused"); !got.OK || !strings.Contains(got.Detail, "42501") {
			t.Errorf("finding = %+v", got)
		}
		if got := finding(report, "old role's login is refused"); !got.OK || !strings.Contains(got.Detail, "28000") {
			t.Errorf("finding = %+v", got)
		}
	}
	mustExec(t, session, insertW, 3) // the job did not notice
	if got := b.query("SELECT count(*)::text FROM duoflow.scratch"); got != "0" {
		t.Errorf("%s scratch rows are left", got)
	}
	if got := b.query("SELECT count(*)::text FROM duoflow.epoch_roles('doctor', $1) WHERE epoch < 4", b.group); got != "0" {
		t.Errorf("%s scratch roles are left", got)
	}
}

func TestTwoDoctorsDoNotDisturbEachOther(t *testing.T) {
	b := newBench(t)
	reports := make(chan string, 2)
	for _, dsn := range []string{b.a, b.b} {
		f := b.fencer(dsn)
		go func() {
			report, err := f.Doctor(context.Background())
			reports <- fmt.Sprint(report.Mode, err)
		}()
	}
	for range 2 {
		if got := <-reports; got != "fenced<nil>" {
			t.Errorf("doctor says %s", got)
		}
	}
}

// Whatever is missing must be named, with what mends it, and must turn the mode.
func TestDoctorTellsTheTruthAboutWhatIsMissing(t *testing.T) {
	cases := []struct{ finding, breaks, mends string }{
		{"duoflow may end sessions", "REVOKE pg_signal_backend FROM duoflow", "GRANT pg_signal_backend TO duoflow"},
		{"duoflow may see sessions", "REVOKE pg_read_all_stats FROM duoflow", "GRANT pg_read_all_stats TO duoflow"},
		{"duoflow may make roles", "ALTER ROLE duoflow NOCREATEROLE", "ALTER ROLE duoflow CREATEROLE"},
		{"duoflow may grant the group", "REVOKE ADMIN OPTION FOR {group} FROM duoflow CASCADE", "GRANT {group} TO duoflow WITH ADMIN OPTION"},
		{"group is a plain role", "ALTER ROLE {group} LOGIN", "ALTER ROLE {group} NOLOGIN"},
		{"nobody writes by PUBLIC", "GRANT INSERT ON public.w TO PUBLIC", "REVOKE INSERT ON public.w FROM PUBLIC"},
		{"epoch roles have no other rights", "GRANT pg_read_all_data TO {role}", "REVOKE pg_read_all_data FROM {role}"},
		{"job has its fence row", "DELETE FROM duoflow.fence WHERE job = 'scheduler'", "INSERT INTO duoflow.fence (job) VALUES ('scheduler')"},
		{"server functions are this version's", "ALTER FUNCTION duoflow.take(text, text, bigint, text, text, text, bigint) RENAME TO took", "ALTER FUNCTION duoflow.took RENAME TO take"},
		{"fencer acts as duoflow", "REVOKE duoflow FROM {fencer}", "GRANT duoflow TO {fencer}"},
		{"server is a supported primary", "ALTER DATABASE {database} SET default_transaction_read_only = on", "ALTER DATABASE {database} RESET default_transaction_read_only"},
		{"epoch role can log in and write", "REVOKE INSERT ON duoflow.scratch FROM {group}", "GRANT INSERT ON duoflow.scratch TO {group}"},
	}
	b := newBench(t)
	f, err := fence.New(fence.Config{Job: job, DSN: b.a, Group: b.group})
	if err != nil {
		t.Fatal(err)
	}
	take(t, f, claim(1, "a"))
	names := strings.NewReplacer("{group}", b.group, "{role}", fmt.Sprintf("%q", b.role(1)), "{database}", b.database,
		"{fencer}", "fencer_a"+strings.TrimPrefix(b.group, "g"))
	for _, c := range cases {
		mustExec(t, b.admin, names.Replace(c.breaks))
		report, err := f.Doctor(t.Context())
		mustExec(t, b.admin, names.Replace(c.mends))
		if err != nil {
			t.Errorf("%s: %v", c.finding, err)
		}
		got := finding(report, c.finding)
		if report.Mode != fence.ModeLeaseOnly || got.OK || got.Mend == "" || got.Detail == "" {
			t.Errorf("%s: mode %s, finding %+v", c.finding, report.Mode, got)
		}
	}
	report, err := f.Doctor(t.Context())
	bad := slices.ContainsFunc(report.Findings, func(f fence.Finding) bool { return !f.OK })
	if err != nil || report.Mode != fence.ModeFenced || bad {
		t.Errorf("after mending all: %+v, %v", report, err)
	}
}

// A job with a schedule needs one table more. Without it no run can be noted, and the fence holds all the same.
func TestDoctorLooksForTheRunsOfASchedule(t *testing.T) {
	const name = "job can note its scheduled runs"
	b := newBench(t)
	for _, c := range []struct {
		runs         bool
		change, want string
	}{
		{true, "GRANT SELECT ON duoflow.run TO {group}", "fenced true"},
		{true, "REVOKE INSERT ON duoflow.run FROM {group}", "fenced false"},
		{true, "DROP TABLE duoflow.run", "fenced false"},
		{false, "SELECT 1", "fenced none"},
	} {
		mustExec(t, b.admin, strings.ReplaceAll(c.change, "{group}", b.group))
		f, err := fence.New(fence.Config{Job: job, DSN: b.a, Group: b.group, Runs: c.runs})
		if err != nil {
			t.Fatal(err)
		}
		report, err := f.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, found := report.Mode+" none", finding(report, name)
		if found.Name != "" {
			got = fmt.Sprint(report.Mode, " ", found.OK)
		}
		if got != c.want || (found.Name != "" && found.OK == strings.Contains(found.Mend, "set-up")) {
			t.Errorf("%s: %s, want %s; %+v", c.change, got, c.want, found)
		}
	}
}

func TestCheckOfADatabaseWithoutSetup(t *testing.T) {
	b := newBench(t)
	mustExec(t, b.admin, "DROP SCHEMA duoflow CASCADE")
	f, err := fence.New(fence.Config{Job: job, DSN: b.a, Group: b.group})
	if err != nil {
		t.Fatal(err)
	}
	report, err := f.Check(t.Context())
	if err != nil || report.Mode != fence.ModeLeaseOnly || !strings.Contains(finding(report, "job has its fence row").Mend, "set-up") {
		t.Errorf("report = %+v, %v", report, err)
	}
}
