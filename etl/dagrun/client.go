package dagrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Config is where Airflow is and who asks.
type Config struct {
	Endpoint string // of the api-server: http://host:port, or https; a path before /api is kept
	DAG      string
	// Username and Password are of a user who may trigger and clear runs and write connections; both "": the server gives
	// everyone a token (simple auth manager with all_admins).
	Username, Password string
	Patience           time.Duration // how long a call is tried again while the server is away; 0 = 1 min
	Logger             *slog.Logger  // nil = discard
}

// Client asks about one DAG. It is safe for concurrent use.
type Client struct {
	config Config
	base   string // without a slash at its end
	log    *slog.Logger
	http   *http.Client

	mu    sync.Mutex
	token string
}

const (
	defaultPatience = time.Minute
	callLimit       = 15 * time.Second
	firstPause      = 50 * time.Millisecond
	mostPause       = 2 * time.Second
	maxAnswer       = 16 << 20 // bytes
)

// New checks the configuration; it asks nobody.
func New(c Config) (*Client, error) {
	base, err := url.Parse(c.Endpoint)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("%q is not like https://host:8080", c.Endpoint)
	}
	if base.User != nil {
		return nil, errors.New("an address must not hold a password") // it would be shown
	}
	if c.DAG == "" {
		return nil, errors.New("no DAG is named")
	}
	if (c.Username == "") != (c.Password == "") {
		return nil, errors.New("a user and a password, or neither")
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &Client{config: c, base: strings.TrimRight(c.Endpoint, "/"), log: c.Logger, http: &http.Client{Transport: transport}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Refusal is an answer that is not the wanted one.
type Refusal struct {
	Call   string
	Status int
	Says   string // the beginning of the answer
}

func (r *Refusal) Error() string {
	hint := ""
	switch r.Status {
	case http.StatusUnauthorized:
		hint = " (are user and password right?)"
	case http.StatusForbidden:
		hint = " (the user must be allowed to trigger and clear runs and to write connections)"
	}
	return fmt.Sprintf("airflow: %s: %d %s%s: %s", r.Call, r.Status, http.StatusText(r.Status), hint, r.Says)
}

// refused tells whether an error is such an answer.
func refused(err error, status int) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Status == status
}

// call asks until there is an answer that another try would not change, or patience ends. Every call may reach the server twice.
func (c *Client) call(ctx context.Context, method, path string, body, answer any) error {
	deadline := time.Now().Add(c.config.Patience)
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		err := c.authorized(ctx, method, path, body, answer)
		if err == nil || ctx.Err() != nil || !passing(err) || time.Now().After(deadline) {
			return err
		}
		c.log.Info("Airflow is asked again", "call", method+" "+path, "err", err)
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// passing tells whether the same call may be answered later.
func passing(err error) bool {
	var r *Refusal
	if !errors.As(err, &r) {
		return true // the connection failed
	}
	return r.Status == http.StatusTooManyRequests || r.Status == http.StatusRequestTimeout || r.Status >= 500
}

// authorized calls with the token; one that has expired is replaced once.
func (c *Client) authorized(ctx context.Context, method, path string, body, answer any) error {
	for fresh := false; ; fresh = true {
		token, err := c.bearer(ctx, fresh)
		if err != nil {
			return err
		}
		err = c.once(ctx, request{method, "/api/v2" + path, token, body}, answer)
		if fresh || !refused(err, http.StatusUnauthorized) {
			return err
		}
	}
}

// bearer is the token that the server gave, or another one.
func (c *Client) bearer(ctx context.Context, fresh bool) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" && !fresh {
		return c.token, nil
	}
	r := request{method: http.MethodGet, path: "/auth/token"}
	if c.config.Username != "" {
		r.method, r.body = http.MethodPost, map[string]string{"username": c.config.Username, "password": c.config.Password}
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := c.once(ctx, r, &answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", errors.New("airflow: the server gave no token")
	}
	c.token = answer.Token
	return c.token, nil
}

type request struct {
	method, path, token string
	body                any
}

// once sends a request. Errors never hold what was sent: it may be a password.
func (c *Client) once(ctx context.Context, r request, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	what := r.method + " " + r.path
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return fmt.Errorf("airflow: encode %s: %w", what, err)
		}
		body = bytes.NewReader(text)
	}
	asked, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return fmt.Errorf("airflow: %s: %w", what, err)
	}
	asked.Header.Set("Content-Type", "application/json")
	asked.Header.Set("Accept", "application/json")
	if r.token != "" {
		asked.Header.Set("Authorization", "Bearer "+r.token)
	}
	response, err := c.http.Do(asked)
	if err != nil {
		return fmt.Errorf("airflow: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("airflow: read answer to %s: %w", what, err)
	case response.StatusCode >= 300:
		return &Refusal{Call: what, Status: response.StatusCode, Says: string(text[:min(len(text), 300)])}
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("airflow: decode answer to %s: %w", what, err)
	}
	return nil
}
