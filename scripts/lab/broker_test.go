//go:build airflow

package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// TestBrokerOfACluster freezes the host of the active scheduler in the middle of a run, with a user at RabbitMQ for each epoch.
func TestBrokerOfACluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	must(t, err)
	t.Cleanup(func() { must(t, l.Down(context.Background())) })
	a, err := l.StartAirflow(ctx, lab.AirflowOptions{Chains: 3, Length: 8})
	must(t, err)
	job := a.SchedulerJob()
	job.Broker = brokerSection(t, a.Broker)
	c, err := l.NewCluster(ctx, a.Store(), lab.ClusterOptions{Jobs: map[string]lab.Job{"scheduler": job}, Env: a.SchedulerEnv()})
	must(t, err)
	must(t, c.Start())
	first, err := c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	must(t, a.Trigger(ctx, "over"))
	eventuallyWithin(t, time.Minute, "some tasks are through", func() bool {
		beats, err := a.Beats(ctx, "over")
		must(t, err)
		return beats.Tasks >= 4
	})
	old := epochUser(ctx, t, a.Broker)
	if !strings.HasPrefix(old, fmt.Sprintf("df_.2f_scheduler_e%d_", first.Epoch)) {
		t.Errorf("user %q under epoch %d", old, first.Epoch)
	}
	must(t, c.Nodes[first.Node].Freeze(ctx))
	second, err := c.AwaitActive(ctx, "scheduler", first.Epoch)
	must(t, err)
	if user := epochUser(ctx, t, a.Broker); !strings.HasPrefix(user, fmt.Sprintf("df_.2f_scheduler_e%d_", second.Epoch)) {
		t.Errorf("user %q under epoch %d", user, second.Epoch)
	}
	var open []json.RawMessage
	askBroker(ctx, t, a.Broker, "/api/connections/username/"+old, &open)
	if len(open) != 0 {
		t.Errorf("the frozen scheduler has %d connections to the broker", len(open))
	}
	must(t, c.Nodes[first.Node].Thaw(ctx))
	state, err := a.AwaitRun(ctx, "over")
	if err != nil || state != "success" {
		t.Fatalf("run ended as %q: %v", state, err)
	}
	beats, err := a.Beats(ctx, "over")
	must(t, err)
	if beats.Tasks != 24 {
		t.Errorf("beats %+v, want 24 tasks", beats)
	}
}

// brokerSection is a job's part of the configuration that gives each epoch a user.
func brokerSection(t *testing.T, r *lab.Rabbit) map[string]any {
	t.Helper()
	user, password := r.Account()
	file := filepath.Join(t.TempDir(), "rabbit.password")
	must(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	where, err := url.Parse(r.URL())
	must(t, err)
	return map[string]any{
		"management": r.ManagementURL(), "user": user, "password_file": file, "amqp": where.Host, "required": true,
	}
}

// epochUser is the one user that the job has at the broker.
func epochUser(ctx context.Context, t *testing.T, r *lab.Rabbit) (name string) {
	t.Helper()
	var users []struct{ Name string }
	askBroker(ctx, t, r, "/api/users", &users)
	for _, u := range users {
		if strings.HasPrefix(u.Name, "df_") {
			if name != "" {
				t.Errorf("users %s and %s", name, u.Name)
			}
			name = u.Name
		}
	}
	return name
}

func askBroker(ctx context.Context, t *testing.T, r *lab.Rabbit, path string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.ManagementURL()+path, nil)
	must(t, err)
	request.SetBasicAuth(r.Account())
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	must(t, err)
	defer response.Body.Close()
	must(t, json.NewDecoder(response.Body).Decode(into))
}
