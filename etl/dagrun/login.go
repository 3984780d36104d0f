package dagrun

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// Login is what one epoch of the job may log in to the database with.
type Login struct {
	Job   string
	Epoch uint64
	Node  string
	Libpq map[string]string // host, port, dbname, user, password, sslmode and others, as in a service file
}

// facts are kept in the connection's extra. Airflow encrypts it as it does the password, and shows it to whoever may see connections; so
// the password is not in it.
type facts struct {
	Job   string            `json:"job"`
	Epoch uint64            `json:"epoch"`
	Node  string            `json:"node"`
	Libpq map[string]string `json:"libpq"`
}

// Lend sees to it that the connection holds the login. It overwrites whatever other epoch's is there, later ones too: call it while the
// fence says that the job is yours, and again and again, because an old epoch that was frozen in here may still overwrite yours, once.
func (c *Client) Lend(ctx context.Context, connection string, l Login) error {
	now, found, err := c.lent(ctx, connection)
	if err != nil || (found && now == l.Epoch) {
		return err
	}
	body, err := l.body(connection)
	if err != nil {
		return err
	}
	if !found {
		if err = c.call(ctx, http.MethodPost, "/connections", body, nil); !refused(err, http.StatusConflict) {
			return err
		}
	}
	return c.call(ctx, http.MethodPatch, "/connections/"+url.PathEscape(connection), body, nil)
}

// lent is the epoch that a connection is of; 0 = of none.
func (c *Client) lent(ctx context.Context, connection string) (epoch uint64, found bool, err error) {
	var answer struct {
		Extra string `json:"extra"`
	}
	err = c.call(ctx, http.MethodGet, "/connections/"+url.PathEscape(connection), nil, &answer)
	if refused(err, http.StatusNotFound) {
		return 0, false, nil
	}
	var f facts
	if err == nil && answer.Extra != "" && json.Unmarshal([]byte(answer.Extra), &f) != nil {
		return 0, true, fmt.Errorf("airflow: connection %s is not one of duoflow's: its extra is no object with an epoch", connection)
	}
	return f.Epoch, true, err
}

func (l Login) body(connection string) (map[string]any, error) {
	rest := map[string]string{}
	for name, value := range l.Libpq {
		if name != "user" && name != "password" {
			rest[name] = value
		}
	}
	extra, err := json.Marshal(facts{Job: l.Job, Epoch: l.Epoch, Node: l.Node, Libpq: rest})
	if err != nil {
		return nil, fmt.Errorf("airflow: encode login: %w", err)
	}
	return map[string]any{
		"connection_id": connection, "conn_type": "generic", "login": l.Libpq["user"], "password": l.Libpq["password"], "extra": string(extra),
		"description": fmt.Sprintf("duoflow: login of job %s at epoch %d; written anew at each failover", l.Job, l.Epoch),
	}, nil
}
