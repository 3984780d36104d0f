package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// A ledger of two epochs on a real server: clean, then with a role that somebody armed, seen by an auditor and by a fencer.
func TestAudit(t *testing.T) {
	server := startPostgres(t)
	console{env: map[string]string{"DUOCTL_ADMIN_DSN": server.Superuser(), "DUOCTL_PASSWORD_FENCER_A": "pw-of-a"}}.
		run(t, "metastore", "init", "--fencer", "fencer_a", "--yes").want(t, exitOK)
	execute(t, server.Superuser(), "CREATE ROLE auditor LOGIN PASSWORD 'pw-of-auditor'; GRANT pg_read_all_data, pg_read_all_stats TO auditor")
	ctl := console{env: map[string]string{"DUOCTL_AUDIT_DSN": server.DSN("auditor", "pw-of-auditor", "postgres")}}
	got := ctl.run(t, "audit")
	got.want(t, exitOK)
	if !strings.Contains(got.out, "findings: none") || !strings.Contains(got.out, "not looked at: Airflow: there are no tables") {
		t.Errorf("output:\n%s", got.out)
	}
	takeAndNote(t, server.DSN("fencer_a", "pw-of-a", "postgres"), 1, "a")
	takeAndNote(t, server.DSN("fencer_a", "pw-of-a", "postgres"), 2, "b")
	ctl.run(t, "audit").want(t, exitOK)
	execute(t, server.Superuser(), "GRANT airflow TO df_airflow_scheduler_e1; ALTER ROLE df_airflow_scheduler_e1 LOGIN")
	got = ctl.run(t, "audit", "--limit", "1")
	got.want(t, exitFailed, "findings: 1", "follow the advice")
	for _, want := range []string{"older epochs that are not shown: 1", "role armed", "role df_airflow_scheduler_e1 may log in and is a member of airflow", "| 2     | b "} {
		if !strings.Contains(got.out, want) {
			t.Errorf("lacks %q:\n%s", want, got.out)
		}
	}
	if strings.Contains(got.out+got.err, "pw-of") {
		t.Error("a password is shown")
	}
	for form, read := range map[string]func([]byte, any) error{"json": json.Unmarshal, "yaml": yaml.Unmarshal} {
		got = ctl.run(t, "audit", "-o", form)
		got.want(t, exitFailed)
		var answer struct {
			Job      string
			Complete bool
			Epochs   []struct {
				Epoch      int
				Node       string
				Taken      string
				Started    *string
				Stopped    *string
				Schedulers []any
			}
			Findings []struct{ Kind, Detail, Mend string }
			Remarks  []string
		}
		if err := read([]byte(got.out), &answer); err != nil {
			t.Fatalf("%s: %v\n%s", form, err, got.out)
		}
		if answer.Job != "scheduler" || !answer.Complete || len(answer.Epochs) != 2 || len(answer.Findings) != 1 || answer.Findings[0].Kind != "role armed" {
			t.Errorf("%s: %+v", form, answer)
		}
		if e := answer.Epochs[1]; e.Node != "b" || e.Started == nil || e.Stopped != nil || !strings.HasSuffix(e.Taken, "Z") || e.Schedulers == nil {
			t.Errorf("%s: %+v", form, e)
		}
	}
	execute(t, server.Superuser(), "REVOKE airflow FROM df_airflow_scheduler_e1; ALTER ROLE df_airflow_scheduler_e1 NOLOGIN; CREATE TABLE task_instance ()")
	ctl.run(t, "audit").want(t, exitStale, "not everything could be looked at", "pg_read_all_data")
	ctl.run(t, "audit", "--airflow=false").want(t, exitOK)
	ctl.env = map[string]string{"DUOCTL_FENCER_DSN": server.DSN("fencer_a", "pw-of-a", "postgres")}
	ctl.run(t, "audit", "--airflow=false").want(t, exitOK)
	ctl.run(t, "audit", "--job", "etl").want(t, exitFailed, `job "etl" has no fence row`)
}

// takeAndNote takes an epoch for a node and notes that its process tree has begun.
func takeAndNote(t *testing.T, dsn string, epoch uint64, node string) {
	t.Helper()
	fencer, err := fence.New(fence.Config{Job: "scheduler", Group: "airflow", DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fencer.Take(t.Context(), fence.Claim{Epoch: epoch, Node: node, Token: strings.Repeat("0", 31) + node}); err != nil {
		t.Fatal(err)
	}
	err = fencer.Note(t.Context(), fence.Note{Epoch: epoch, Node: node, Moment: fence.Started, Ago: func() time.Duration { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAuditRefusals(t *testing.T) {
	ctl := console{env: map[string]string{"DUOCTL_AUDIT_DSN": "postgres://u:secret@" + closedPort(t) + "/db"}}
	console{}.run(t, "audit").want(t, exitUsage, "DUOCTL_AUDIT_DSN")
	ctl.run(t, "audit", "--dsn", "postgres://u:secret@h:port/db").want(t, exitUsage, "cannot be read")
	ctl.run(t, "audit", "--limit", "-1").want(t, exitUsage, "negative")
	ctl.run(t, "audit", "--clock-skew", "-1s").want(t, exitUsage, "negative")
	got := ctl.run(t, "audit")
	got.want(t, exitFailed, "connection refused")
	if strings.Contains(got.err, "secret") {
		t.Errorf("a password is shown: %s", got.err)
	}
	got = ctl.run(t, "audit", "--help")
	got.want(t, exitOK)
	for _, want := range []string{"try ran twice", "duoctl audit --job etl", "pg_read_all_data"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("help lacks %q", want)
		}
	}
}
