package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/fence"
)

// taken is a backup of the fake cluster.
func taken(t *testing.T) string {
	t.Helper()
	dir := makeCertificates(t)
	file := filepath.Join(t.TempDir(), "prod.backup")
	operator(dir, serve(t, newFakeCluster(), dir)).run(t, "backup", file).want(t, exitOK)
	return file
}

func TestBackup(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	ctl := operator(dir, serve(t, cluster, dir))
	folder := t.TempDir()
	file := filepath.Join(folder, "prod.backup")
	got := ctl.run(t, "backup", file)
	got.want(t, exitOK)
	golden(t, "backup.table", strings.ReplaceAll(got.out, folder, "FOLDER"))
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{"table", "json", "yaml"} {
		got := console{}.run(t, "backup", "show", file, "-o", output) // asks no node
		got.want(t, exitOK)
		golden(t, "backup-show."+output, strings.ReplaceAll(got.out, folder, "FOLDER"))
	}
	console{}.run(t, "backup", "check", file).want(t, exitOK)
	ctl.run(t, "backup", file).want(t, exitUnsafe, "exists", "--force")
	ctl.run(t, "backup", file, "--force").want(t, exitOK)
	if after, err := os.ReadFile(file); err != nil || !slices.Equal(before, after) {
		t.Errorf("the same picture is another file: %v", err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBackupOfWhoHasQuorum: a node that is cut off, at the first endpoint, refuses for itself alone.
func TestBackupOfWhoHasQuorum(t *testing.T) {
	dir := makeCertificates(t)
	alone, leading := newFakeCluster(), newFakeCluster()
	alone.loseQuorum()
	first := serve(t, alone, dir)
	file := filepath.Join(t.TempDir(), "prod.backup")
	operator(dir, first, closedPort(t)).run(t, "backup", file).want(t, exitNoQuorum, first, "no majority")
	operator(dir, first, serve(t, leading, dir)).run(t, "backup", file).want(t, exitOK)
}

func TestBackupWithoutQuorum(t *testing.T) {
	dir := makeCertificates(t)
	cluster := newFakeCluster()
	cluster.loseQuorum()
	ctl := operator(dir, serve(t, cluster, dir))
	file := filepath.Join(t.TempDir(), "prod.backup")
	ctl.run(t, "backup", file).want(t, exitNoQuorum, "no majority")
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was written")
	}
	ctl.run(t, "backup", file, "--local").want(t, exitStale, "no quorum")
	if got := (console{}).run(t, "backup", "show", file); !strings.Contains(got.out, "LOCAL") {
		t.Errorf("it does not say that it is local:\n%s", got.out)
	}
}

func TestADamagedBackupIsRefused(t *testing.T) {
	file := taken(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"show", "check"} {
		console{}.run(t, "backup", verb, file).want(t, exitFailed, "damaged")
	}
	console{}.run(t, "backup", "check", file+"x").want(t, exitUsage, "no such file")
}

func TestMetastoreSeal(t *testing.T) {
	server := startPostgres(t)
	env := map[string]string{"DUOCTL_ADMIN_DSN": server.Superuser(), "DUOCTL_PASSWORD_FENCER_A": "pw-of-a"}
	ctl := console{env: env}
	ctl.run(t, "metastore", "init", "--fencer", "fencer_a", "--yes").want(t, exitOK)
	fencer, err := fence.New(fence.Config{Job: "scheduler", Group: "airflow", DSN: server.DSN("fencer_a", "pw-of-a", "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	login, err := fencer.Take(t.Context(), fence.Claim{Epoch: 3, Node: "a", Token: "0123456789abcdef0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	ctl.run(t, "metastore", "seal").want(t, exitUsage, "--yes")
	ctl.run(t, "metastore", "seal", "--dry-run").want(t, exitOK)
	if got := query(t, login.DSN(), "SELECT current_user::text"); got != login.Role {
		t.Fatalf("the role is %s", got)
	}
	got := ctl.run(t, "metastore", "seal", "--yes")
	got.want(t, exitOK)
	golden(t, "metastore-seal.table", got.out)
	if got := query(t, server.Superuser(), "SELECT rolcanlogin::text FROM pg_roles WHERE rolname = '"+login.Role+"'"); got != "false" {
		t.Errorf("the role may log in: %s", got)
	}
	got = ctl.run(t, "metastore", "seal", "--yes", "-o", "json")
	got.want(t, exitOK)
	if !strings.Contains(got.out, `"shut": []`) {
		t.Errorf("sealed twice:\n%s", got.out)
	}
	ctl.run(t, "metastore", "seal", "--yes", "--job", "etl").want(t, exitFailed, "no row for job etl")
	ctl.run(t, "metastore", "seal", "--yes", "--job", "A B").want(t, exitUsage, "A B")
	console{}.run(t, "metastore", "seal", "--yes").want(t, exitUsage, "DUOCTL_ADMIN_DSN")
}
