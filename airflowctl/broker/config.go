package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says which broker the messages of a job go through, and who may make users there. It holds no password.
type Config struct {
	// Job is the job's name; it has no underscore.
	Job string
	// Management is the management API's URL, with what stands before /api in its path, without a user.
	Management string
	// User is one with RabbitMQ's tag administrator, PasswordFile the file with its password, which is read at each call.
	User, PasswordFile string
	// CA is a file of PEM certificates that Management is trusted by; "" = the host's own.
	CA string
	// VHost is where an epoch's user may work; "" = "/".
	VHost string
	// AMQP is where the job connects to, host:port.
	AMQP   string
	Logger *slog.Logger
}

// Fault is what is wrong with one setting.
type Fault struct {
	// Key is management, user, password_file, ca, vhost or amqp.
	Key string
	// Text says what is wrong, and quotes no password.
	Text string
}

// maxName is how long RabbitMQ lets the name of a user or virtual host be, in bytes.
const maxName = 255

// Faults says of every setting what is wrong with it. Files are not looked at.
func (c Config) Faults() []Fault {
	var all []Fault
	add := func(key, format string, args ...any) { all = append(all, Fault{key, fmt.Sprintf(format, args...)}) }
	if text := managementFault(c.Management); text != "" {
		add("management", "%s", text)
	}
	if c.User == "" {
		add("user", "empty; a RabbitMQ user with the tag administrator")
	}
	if c.PasswordFile == "" {
		add("password_file", "empty; a file that holds the password of that user and nothing else")
	}
	if c.CA != "" && !strings.HasPrefix(c.Management, "https:") {
		add("ca", "given, but management is no https URL; remove it")
	}
	if n := len(userName(c, Claim{Epoch: maxEpoch, Token: strings.Repeat("f", tokenUsed)})); n > maxName || len(c.VHost) > maxName {
		add("vhost", "makes user names of %d bytes, RabbitMQ takes %d", n, maxName)
	}
	if host, port, err := net.SplitHostPort(c.AMQP); err != nil || host == "" || port == "" {
		add("amqp", "%q; want host:port, where the scheduler sends its messages to", c.AMQP)
	}
	return all
}

// managementFault quotes nothing: a URL may hold a password.
func managementFault(text string) string {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return "empty; the URL of RabbitMQ's management API, such as https://rabbit:15671"
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return "no URL of http or https"
	case u.User != nil:
		return "has a user in it; name it in user, and its password in password_file"
	case u.RawQuery != "" || u.Fragment != "":
		return "has a query or a fragment; want the URL alone"
	}
	return ""
}

func (c Config) vhost() string {
	if c.VHost == "" {
		return "/"
	}
	return c.VHost
}

// transport is what the management API is called over. A proxy of the environment is for the outside world.
func (c Config) transport() (*http.Transport, error) {
	t := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		TLSHandshakeTimeout: time.Second, ResponseHeaderTimeout: callWithin, IdleConnTimeout: 10 * time.Second,
	}
	if c.CA == "" {
		return t, nil
	}
	text, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read ca: %s holds no certificate in PEM", c.CA)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool}
	return t, nil
}

// New checks the configuration and calls nobody.
func New(config Config) (*Fence, error) {
	var faults []error
	for _, f := range config.Faults() {
		faults = append(faults, fmt.Errorf("%s: %s", f.Key, f.Text))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("make broker fence: %w", err)
	}
	transport, err := config.transport()
	if err != nil {
		return nil, fmt.Errorf("make broker fence: %w", err)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Fence{
		config: config, log: config.Logger.With("job", config.Job), left: map[string]bool{},
		api: management{config: config, client: &http.Client{Transport: transport, CheckRedirect: noRedirect}},
	}, nil
}

// noRedirect: whoever is redirected takes the password along.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
