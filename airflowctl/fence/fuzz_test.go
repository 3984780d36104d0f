package fence

import (
	"bytes"
	"strings"
	"testing"

	"github.com/jackc/pgservicefile"
	"github.com/jackc/pgx/v5"
)

// FuzzServiceFile: of any DSN that is accepted, the job is told the same servers, database and password by the service file as by the
// DSN that the credentials are also spelled as; and pgx, which reads both, agrees.
func FuzzServiceFile(f *testing.F) {
	f.Add("postgres://fencer:pw@db1:5433,db2/airflow?target_session_attrs=read-write&sslmode=disable", "df_airflow_scheduler_e7", "secret")
	f.Add("host='db 1' port=5432 dbname='a\\'b' user=x connect_timeout=3 sslmode=prefer", "r", "p'\\ q")
	f.Add("host=/var/run/postgresql dbname=a=b", "r", "p")
	f.Fuzz(func(t *testing.T, dsn, role, password string) {
		if strings.ContainsAny(role+password, "\r\n\x00") || strings.TrimSpace(role) != role || strings.TrimSpace(password) != password || role == "" || password == "" {
			return // neither is ever made so
		}
		if strings.Contains(dsn, "service") || strings.Contains(dsn, "ssl") && !strings.Contains(dsn, "sslmode=disable") {
			return // files of the machine that runs the test
		}
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return
		}
		c, err := credentialsFrom(dsn, config)
		if err != nil {
			if strings.Contains(err.Error(), config.Password) && config.Password != "" && len(config.Password) > 8 {
				t.Fatalf("the error holds the password: %v", err)
			}
			return
		}
		c.Role, c.Password = role, password
		services, err := pgservicefile.ParseServicefile(bytes.NewReader(c.ServiceFile("airflow")))
		if err != nil {
			t.Fatalf("%q: %v", c.ServiceFile("airflow"), err)
		}
		service, err := services.GetService("airflow")
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.settings() {
			if service.Settings[s.name] != s.value {
				t.Fatalf("%s: the file says %q, it is %q", s.name, service.Settings[s.name], s.value)
			}
		}
		again, err := pgx.ParseConfig(c.DSN())
		if err != nil {
			t.Fatalf("%q became %q: %v", dsn, c.DSN(), err)
		}
		if again.Host != c.Host || again.Port != max(c.Port, 1) || again.Database != c.Database && c.Database != "" || again.User != role || again.Password != password {
			t.Fatalf("%q became %q: %s:%d %s as %s", dsn, c.DSN(), again.Host, again.Port, again.Database, again.User)
		}
	})
}
