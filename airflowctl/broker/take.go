package broker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// closePause is how long a look at connections that are being closed waits for the next.
const closePause = 10 * time.Millisecond

// Credentials let one process life connect as the user of one epoch. Printed or logged they show no password.
type Credentials struct {
	AMQP, VHost, User string

	password string
}

// URL is what Celery takes as broker_url. It holds the password.
func (c Credentials) URL() string {
	return "amqp://" + url.UserPassword(c.User, c.password).String() + "@" + c.AMQP + "/" + url.PathEscape(c.VHost)
}

// String names the user and where it connects to.
func (c Credentials) String() string { return c.User + "@" + c.AMQP }

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

// LogValue is String, for a logger.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Fence makes the users of one job's epochs. One Take at a time.
type Fence struct {
	config Config
	log    *slog.Logger
	api    management

	mu sync.Mutex
	// known is the claim of the last Take, and its password: so Take can be repeated.
	known    Claim
	password string
	// left are the deleted users that have not been seen without a connection yet.
	left map[string]bool
}

// Take makes the user of the claim's epoch and returns once no user of another epoch of the job can send or receive anything: they
// are deleted and their connections closed. It tries once. Repeated for the same claim it gives the same credentials.
//
// holds is asked after the user was made, and has to say whether the fence row in the database is the claim's, as it is at that moment
// or later; RabbitMQ itself has nothing that could decide between two who take at once. Its error is returned, and the user is
// deleted again.
func (f *Fence) Take(ctx context.Context, claim Claim, holds func(context.Context) error) (Credentials, error) {
	if err := claim.validate(); err != nil {
		return Credentials{}, fmt.Errorf("take broker fence: %w", err)
	}
	defer f.api.client.CloseIdleConnections()
	began := time.Now()
	credentials := f.credentialsFor(claim)
	others, err := f.take(ctx, credentials, holds)
	if err != nil {
		return Credentials{}, fmt.Errorf("take broker fence of epoch %d: %w", claim.Epoch, err)
	}
	f.log.Info("broker fence taken", "epoch", claim.Epoch, "user", credentials.User, "deleted", others, "took", time.Since(began))
	return credentials, nil
}

// take goes in an order that matters, see DESIGN.md: make, look, ask, delete, close, permit.
func (f *Fence) take(ctx context.Context, credentials Credentials, holds func(context.Context) error) (others []string, err error) {
	if err := f.create(ctx, credentials); err != nil {
		return nil, err
	}
	if others, err = f.others(ctx, credentials.User); err != nil {
		return nil, err
	}
	if err := holds(ctx); err != nil {
		return nil, errors.Join(err, f.remove(context.WithoutCancel(ctx), credentials.User))
	}
	for _, user := range others {
		f.remember(user)
		if err := f.remove(ctx, user); err != nil {
			return nil, err
		}
	}
	for _, user := range f.unclosed() {
		if err := f.close(ctx, user); err != nil {
			return nil, err
		}
	}
	return others, f.permit(ctx, credentials.User)
}

func (f *Fence) credentialsFor(claim Claim) Credentials {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known != claim {
		f.known, f.password = claim, rand.Text()
	}
	return Credentials{AMQP: f.config.AMQP, VHost: f.config.vhost(), User: userName(f.config, claim), password: f.password}
}

func (f *Fence) remember(user string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left[user] = true
}

func (f *Fence) unclosed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var users []string
	for user := range f.left {
		users = append(users, user)
	}
	slices.Sort(users)
	return users
}

// create makes a user who may do nothing yet. The server gets to know a hash of its password.
func (f *Fence) create(ctx context.Context, c Credentials) error {
	salt := make([]byte, 4) // as long as RabbitMQ wants it
	rand.Read(salt)
	sum := sha256.Sum256(append(slices.Clone(salt), c.password...))
	body := map[string]string{
		"password_hash":     base64.StdEncoding.EncodeToString(append(salt, sum[:]...)),
		"hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "",
	}
	return f.api.call(ctx, http.MethodPut, []string{"users", c.User}, body, nil)
}

// others lists the users of all other epochs of the job.
func (f *Fence) others(ctx context.Context, self string) ([]string, error) {
	var users []struct{ Name string }
	if err := f.api.call(ctx, http.MethodGet, []string{"users"}, nil, &users); err != nil {
		return nil, err
	}
	var names []string
	seen := false
	for _, u := range users {
		seen = seen || u.Name == self
		if u.Name != self && ours(f.config, u.Name) {
			names = append(names, u.Name)
		}
	}
	if !seen {
		return nil, fmt.Errorf("user %s was made, and is not in the list of users", self)
	}
	return names, nil
}

func (f *Fence) remove(ctx context.Context, user string) error {
	if err := f.api.call(ctx, http.MethodDelete, []string{"users", user}, nil, nil); !errors.Is(err, errNotFound) {
		return err
	}
	return nil
}

// close ends the connections of a deleted user. The server does so by itself at the deletion, but leaves one whose client does not
// answer half closed for up to 30 s; this one ends it, and says when. When a connection ends by itself just then, the server answers
// 500: only the list says whether any is left.
func (f *Fence) close(ctx context.Context, user string) error {
	path := []string{"connections", "username", user}
	for {
		failed := f.api.call(ctx, http.MethodDelete, path, nil, nil)
		if failed != nil && !errors.Is(failed, errServer) {
			return failed
		}
		var open []struct{ Name string }
		if err := f.api.call(ctx, http.MethodGet, path, nil, &open); err != nil {
			return err
		}
		if len(open) == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("close %d connections of user %s: %w", len(open), user, errors.Join(ctx.Err(), failed))
		case <-time.After(closePause):
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.left, user)
	return nil
}

// permit lets a user do everything in the virtual host, and nothing anywhere else.
func (f *Fence) permit(ctx context.Context, user string) error {
	all := map[string]string{"configure": ".*", "write": ".*", "read": ".*"}
	return f.api.call(ctx, http.MethodPut, []string{"permissions", f.config.vhost(), user}, all, nil)
}

// Kept tells whether the claim's user is still there: a broker that was made anew or restored has forgotten it, and Take makes it
// again.
func (f *Fence) Kept(ctx context.Context, claim Claim) (bool, error) {
	if err := claim.validate(); err != nil {
		return false, fmt.Errorf("look for broker user: %w", err)
	}
	defer f.api.client.CloseIdleConnections()
	err := f.api.call(ctx, http.MethodGet, []string{"permissions", f.config.vhost(), userName(f.config, claim)}, nil, nil)
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for broker user: %w", err)
	}
	return true, nil
}

// Release deletes the claim's own user, and with it its connections.
func (f *Fence) Release(ctx context.Context, claim Claim) error {
	if err := claim.validate(); err != nil {
		return fmt.Errorf("release broker fence: %w", err)
	}
	defer f.api.client.CloseIdleConnections()
	if err := f.remove(ctx, userName(f.config, claim)); err != nil {
		return fmt.Errorf("release broker fence of epoch %d: %w", claim.Epoch, err)
	}
	return nil
}

// LackError says which right or object the broker lacks; somebody has to change something.
type LackError struct{ What, Mend string }

func (e *LackError) Error() string { return e.What + "; " + e.Mend }

// Check asks whether a Take could work, and changes nothing: nil, a *LackError, or why the broker could not be asked.
func (f *Fence) Check(ctx context.Context) error {
	defer f.api.client.CloseIdleConnections()
	var me struct{ Tags any }
	if err := f.api.call(ctx, http.MethodGet, []string{"whoami"}, nil, &me); err != nil {
		return fmt.Errorf("check broker: %w", err)
	}
	if !administrator(me.Tags) {
		return &LackError{
			fmt.Sprintf("RabbitMQ user %s may not make users", f.config.User),
			"rabbitmqctl set_user_tags " + f.config.User + " administrator",
		}
	}
	err := f.api.call(ctx, http.MethodGet, []string{"vhosts", f.config.vhost()}, nil, nil)
	if errors.Is(err, errNotFound) {
		return &LackError{fmt.Sprintf("RabbitMQ has no virtual host %s", f.config.vhost()), "rabbitmqctl add_vhost " + f.config.vhost()}
	}
	if err != nil {
		return fmt.Errorf("check broker: %w", err)
	}
	return nil
}

// administrator reads tags as servers since 3.9 write them, a list, and as older ones did, a text with commas.
func administrator(tags any) bool {
	switch tags := tags.(type) {
	case []any:
		return slices.Contains(tags, any("administrator"))
	case string:
		return slices.Contains(strings.Split(tags, ","), "administrator")
	}
	return false
}
