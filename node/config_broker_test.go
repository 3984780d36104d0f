package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/duoflow/duoflow/airflowctl/broker"
)

// withBroker stands for what a job has beside its interpreter.
const withBroker = "python: /opt/airflow/bin/python\n    broker: "

func TestOneThingWrongWithABroker(t *testing.T) {
	python := "python: /opt/airflow/bin/python"
	oneThingWrong(t, []change{
		{python, withBroker + "{management: 'https://rabbit:15671', user: duoflow, password_file: keys, ca: ca.pem, vhost: airflow, amqp: 'rabbit:5672'}", ""},
		{python, withBroker + "{management: 'http://rabbit:15672', user: duoflow, password_file: keys, amqp: 'rabbit:5672', required: true}", ""},
		{python, withBroker + "{}", ""},
		{python, withBroker + "{management: 'http://me:hush@rabbit:15672', user: duoflow, password_file: keys, amqp: 'rabbit:5672'}",
			"jobs.scheduler.broker.management: has a user in it"},
		{python, withBroker + "{user: duoflow, password_file: keys, amqp: 'rabbit:5672'}", "jobs.scheduler.broker.management: empty"},
		{python, withBroker + "{management: 'http://rabbit:15672', password_file: keys, amqp: 'rabbit:5672'}", "jobs.scheduler.broker.user: empty"},
		{python, withBroker + "{management: 'http://rabbit:15672', user: duoflow, amqp: 'rabbit:5672'}", "jobs.scheduler.broker.password_file: empty"},
		{python, withBroker + "{management: 'http://rabbit:15672', user: duoflow, password_file: none, amqp: 'rabbit:5672'}",
			"jobs.scheduler.broker.password_file: stat DIR/none: no such file"},
		{python, withBroker + "{management: 'http://rabbit:15672', user: duoflow, password_file: a.pem, amqp: 'rabbit:5672'}",
			"jobs.scheduler.broker.password_file: DIR/a.pem has mode 0644: others may read"},
		{python, withBroker + "{management: 'http://rabbit:15672', user: duoflow, password_file: keys, ca: ca.pem, amqp: 'rabbit:5672'}",
			"jobs.scheduler.broker.ca: given, but"},
		{python, withBroker + "{management: 'https://rabbit:15671', user: duoflow, password_file: keys, ca: keys, amqp: 'rabbit:5672'}",
			"jobs.scheduler.broker.ca: DIR/keys holds no certificate"},
		{python, withBroker + "{management: 'http://rabbit:15672', user: duoflow, password_file: keys, amqp: rabbit}", "jobs.scheduler.broker.amqp: \"rabbit\"; want host:port"},
		{python, withBroker + "{management: 'http://rabbit:15672', user: duoflow, password: hush, password_file: keys, amqp: 'rabbit:5672'}",
			"jobs.scheduler.broker.password: [13:64] unknown key; the keys here are management, user, password_file,"},
		{"env: {TZ: UTC}", "broker: {user: duoflow}", "jobs.etl.broker: only kind airflow"},
	})
}

// TestEverythingWrongWithABroker is told at once, and quotes nothing that may be a password.
func TestEverythingWrongWithABroker(t *testing.T) {
	good, err := os.ReadFile(written(t))
	must(t, err)
	dir := sound(t)
	write(t, dir, "empty", 0o600, []byte(" \n"))
	bad := strings.Replace(string(good), "python: /opt/airflow/bin/python",
		withBroker+"{management: 'ftp://me:hush@rabbit', password_file: empty, amqp: ':5672', ca: none}", 1)
	_, err = ParseConfig([]byte(bad), dir)
	var p *Problems
	if !errors.As(err, &p) || strings.Contains(err.Error(), "hush") {
		t.Fatalf("problems: %v", err)
	}
	for i, key := range []string{"management", "user", "ca", "amqp", "password_file", "ca"} {
		if i >= len(p.List) || !strings.HasPrefix(p.List[i], "jobs.scheduler.broker."+key+": ") {
			t.Errorf("problem %d is not about %s: %v", i, key, err)
		}
	}
}

func TestBrokerOfAJob(t *testing.T) {
	good, err := os.ReadFile(written(t))
	must(t, err)
	dir := sound(t)
	c, err := ParseConfig([]byte(strings.Replace(string(good), "python: /opt/airflow/bin/python",
		withBroker+"{management: 'https://rabbit:15671', user: duoflow, password_file: keys, ca: ca.pem, vhost: airflow, amqp: 'rabbit:5672'}", 1)), dir)
	must(t, err)
	want := broker.Config{
		Job: "scheduler", Management: "https://rabbit:15671", User: "duoflow", PasswordFile: filepath.Join(dir, "keys"),
		CA: filepath.Join(dir, "ca.pem"), VHost: "airflow", AMQP: "rabbit:5672",
	}
	if got := c.Jobs["scheduler"].Broker.Fence("scheduler"); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
