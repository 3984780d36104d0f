package dagrun_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duoflow/duoflow/etl/dagrun"
	"github.com/duoflow/duoflow/etl/dagrun/dagruntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, change func(*dagrun.Config)) (*dagruntest.Server, *dagrun.Client) {
	t.Helper()
	s := dagruntest.Start(t)
	s.Do = func(context.Context, dagrun.Run) []dagrun.Task { return nil }
	c := dagrun.Config{Endpoint: s.URL + "/", DAG: dagruntest.DAG, Username: dagruntest.User, Password: dagruntest.Password}
	if change != nil {
		change(&c)
	}
	client, err := dagrun.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return s, client
}

func TestConfigurationIsChecked(t *testing.T) {
	for endpoint, want := range map[string]string{
		"": "is not like", "airflow:8080": "is not like", "ftp://airflow": "is not like", "http://a:b@airflow": "must not hold a password",
	} {
		if _, err := dagrun.New(dagrun.Config{Endpoint: endpoint, DAG: "x"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", endpoint, err, want)
		}
	}
	if _, err := dagrun.New(dagrun.Config{Endpoint: "http://airflow"}); err == nil {
		t.Error("no DAG was taken")
	}
	if _, err := dagrun.New(dagrun.Config{Endpoint: "http://airflow", DAG: "x", Username: "u"}); err == nil {
		t.Error("a user without a password was taken")
	}
}

func TestTriggerTwiceIsOneRun(t *testing.T) {
	s, c := start(t, nil)
	conf := dagrun.Conf{Pipeline: "p", Connection: "duoflow_etl", Chunks: []string{"2018"}, Accept: true}
	run, existed, err := c.Trigger(t.Context(), "duoflow__p", conf)
	if err != nil || existed || run.ID != "duoflow__p" {
		t.Fatalf("%+v, existed %v: %v", run, existed, err)
	}
	conf.Chunks = nil
	run, existed, err = c.Trigger(t.Context(), "duoflow__p", conf)
	if err != nil || !existed || len(run.Conf.Chunks) != 1 || !run.Conf.Accept {
		t.Errorf("%+v, existed %v: %v; want the run as it was made", run, existed, err)
	}
	if n := len(s.Runs()); n != 1 {
		t.Errorf("%d runs", n)
	}
}

func TestActiveAreThoseOfThePipeline(t *testing.T) {
	s, c := start(t, nil)
	s.Do = func(ctx context.Context, r dagrun.Run) []dagrun.Task {
		if r.Conf.Pipeline != "done" {
			<-ctx.Done()
		}
		return nil
	}
	for _, name := range []string{"done", "other", "mine"} {
		if _, _, err := c.Trigger(t.Context(), "run of "+name, dagrun.Conf{Pipeline: name}); err != nil {
			t.Fatal(err)
		}
	}
	active, err := c.Active(t.Context(), "mine")
	if err != nil || len(active) != 1 || active[0].ID != "run of mine" || active[0].State.Ended() {
		t.Errorf("%+v, %v", active, err)
	}
}

func TestTokensThatExpireAndServersThatComeBack(t *testing.T) {
	s, c := start(t, nil)
	for range 2 {
		if _, err := c.Paused(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Expire()
		s.Break(2)
	}
	if n := s.Calls("POST /auth/token"); n < 2 || n > 5 {
		t.Errorf("%d tokens", n)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	_, c := start(t, func(c *dagrun.Config) { c.DAG = "thunder" })
	_, _, err := c.Trigger(t.Context(), "x", dagrun.Conf{})
	if !errors.Is(err, dagrun.ErrNoDAG) {
		t.Errorf("%v, want that there is no DAG", err)
	}
	_, c = start(t, func(c *dagrun.Config) { c.Password = "wrong secret" })
	_, err = c.Paused(t.Context())
	if err == nil || !strings.Contains(err.Error(), "are user and password right?") || strings.Contains(err.Error(), "wrong secret") {
		t.Errorf("%v", err)
	}
	s, c := start(t, func(c *dagrun.Config) { c.Patience = time.Millisecond })
	s.Break(1000)
	if _, err = c.Paused(t.Context()); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = c.Paused(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestTheLoginIsTheNewestEpochs: also when an old epoch that slept has overwritten it. The password is in nothing that Airflow shows.
func TestTheLoginIsTheNewestEpochs(t *testing.T) {
	s, c := start(t, nil)
	login := func(epoch uint64) dagrun.Login {
		return dagrun.Login{Job: "etl", Epoch: epoch, Node: "a", Libpq: map[string]string{"host": "db", "user": "role", "password": "secret"}}
	}
	for _, epoch := range []uint64{1, 2, 1, 2, 2} {
		if err := c.Lend(t.Context(), "duoflow_etl", login(epoch)); err != nil {
			t.Fatal(err)
		}
		held := s.Connection("duoflow_etl")
		var extra struct {
			Epoch uint64
			Libpq map[string]string
		}
		if err := json.Unmarshal([]byte(held["extra"].(string)), &extra); err != nil {
			t.Fatal(err)
		}
		if extra.Epoch != epoch || held["login"] != "role" || held["password"] != "secret" || extra.Libpq["host"] != "db" || len(extra.Libpq) != 1 {
			t.Errorf("epoch %d: %v", epoch, held)
		}
	}
	if n := s.Calls("PATCH"); n != 3 {
		t.Errorf("%d changes, want 3: the first is made, the last is there", n)
	}
	s.SetConnection("duoflow_etl", map[string]any{"extra": "[]"})
	if err := c.Lend(t.Context(), "duoflow_etl", login(3)); err == nil {
		t.Error("somebody else's connection was overwritten")
	}
}

func TestAgain(t *testing.T) {
	s, c := start(t, nil)
	bad := true
	s.Do = func(context.Context, dagrun.Run) []dagrun.Task {
		if bad {
			return []dagrun.Task{{ID: "tiles.load", Index: 1, State: "failed", Try: 4}}
		}
		return nil
	}
	ended := func() dagrun.Run {
		for {
			run, err := c.Run(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if run.State.Ended() {
				return run
			}
		}
	}
	if _, _, err := c.Trigger(t.Context(), "x", dagrun.Conf{}); err != nil {
		t.Fatal(err)
	}
	run := ended()
	tasks, err := c.FailedTasks(t.Context(), "x")
	if err != nil || run.State != dagrun.Failed || len(tasks) != 1 || tasks[0].ID != "tiles.load" || tasks[0].Index != 1 {
		t.Errorf("%+v, %+v, %v", run, tasks, err)
	}
	bad = false
	if err := c.Again(t.Context(), "x", false); err != nil {
		t.Fatal(err)
	}
	if run := ended(); run.State != dagrun.Success {
		t.Errorf("%+v", run)
	}
	if url := c.URL("a/b"); !strings.HasSuffix(url, "/dags/lightning/runs/a%2Fb") || strings.Contains(strings.TrimPrefix(url, "http://"), "//") {
		t.Errorf("page %s", url)
	}
}
