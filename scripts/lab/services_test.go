package lab_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

func TestMetastoreAndRabbit(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	store, err := l.StartMetastore(ctx, nil)
	must(t, err)
	conn, err := pgx.Connect(ctx, store.DSNOf(lab.Owner))
	must(t, err)
	defer conn.Close(context.Background())
	var owner, timestamps string
	must(t, conn.QueryRow(ctx, `SELECT pg_get_userbyid(datdba), current_setting('track_commit_timestamp')
		FROM pg_database WHERE datname = current_database()`).Scan(&owner, &timestamps))
	if owner != lab.Owner || timestamps != "on" {
		t.Errorf("owner %s, commit timestamps %s", owner, timestamps)
	}
	broker, err := l.StartRabbit(ctx, lab.RabbitOptions{Management: true})
	must(t, err)
	if user := whoami(ctx, t, broker); user != "airflow" {
		t.Errorf("the broker knows us as %q", user)
	}
	must(t, l.Hub().Kill(ctx))
	if left := pids(t, l.Hub()); len(left) != 0 {
		t.Errorf("processes %v outlived the broker's host", left)
	}
}

// whoami asks the management API who we are.
func whoami(ctx context.Context, t *testing.T, broker *lab.Rabbit) string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, broker.ManagementURL()+"/api/whoami", nil)
	must(t, err)
	request.SetBasicAuth(broker.Account())
	var answer struct{ Name string }
	eventually(t, "the management API answers", func() bool {
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK && json.NewDecoder(response.Body).Decode(&answer) == nil
	})
	return answer.Name
}
