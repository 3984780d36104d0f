package fence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Endpoint is one address of a database server.
type Endpoint struct {
	Host string
	Port uint16
}

// Credentials let one process life log in as the role of one epoch. They are worthless as soon as
// the next fence commits. Never log them.
type Credentials struct {
	Host string // of the first server
	Port uint16
	More []Endpoint // further servers, in the order of the DSN; see TargetSessionAttrs

	Database, Role, Password string

	SSLMode            string // "" = the client's default
	SSLRootCert        string // path; "" = the client's default
	ChannelBinding     string // "" = the client's default
	TargetSessionAttrs string // "" = any
	ConnectTimeout     string // seconds for each server; "" = the client's default
}

// ErrServiceFileUsed says that another life's service file is at that path. A path is used once.
var ErrServiceFileUsed = errors.New("a service file of another life is there")

// setting is one libpq parameter.
type setting struct{ name, value string }

// settings are the libpq parameters in a fixed order, without the empty ones.
func (c Credentials) settings() []setting {
	hosts, ports := []string{c.Host}, []string{portText(c.Port)}
	for _, more := range c.More {
		hosts, ports = append(hosts, more.Host), append(ports, portText(more.Port))
	}
	all := []setting{
		{"host", strings.Join(hosts, ",")},
		{"port", strings.Join(ports, ",")},
		{"dbname", c.Database},
		{"user", c.Role},
		{"password", c.Password},
		{"sslmode", c.SSLMode},
		{"sslrootcert", c.SSLRootCert},
		{"channel_binding", c.ChannelBinding},
		{"target_session_attrs", c.TargetSessionAttrs},
		{"connect_timeout", c.ConnectTimeout},
	}
	var set []setting
	for _, s := range all {
		if s.value != "" {
			set = append(set, s)
		}
	}
	return set
}

func portText(port uint16) string {
	if port == 0 {
		return "5432"
	}
	return strconv.Itoa(int(port))
}

// DSN returns the credentials in libpq's keyword form, as pgx and libpq take it.
func (c Credentials) DSN() string {
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var words []string
	for _, s := range c.settings() {
		words = append(words, fmt.Sprintf("%s='%s'", s.name, quote.Replace(s.value)))
	}
	return strings.Join(words, " ")
}

// ServiceFile returns the text of a libpq service file with one service.
func (c Credentials) ServiceFile(service string) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "[%s]\n", service)
	for _, s := range c.settings() {
		fmt.Fprintf(&text, "%s=%s\n", s.name, s.value)
	}
	return text.Bytes()
}

// credentialsFrom takes everything but role and password from the fencer's own DSN.
func credentialsFrom(dsn string, config *pgx.ConnConfig) (Credentials, error) {
	params, err := dsnParams(dsn)
	if err != nil {
		return Credentials{}, err
	}
	c := Credentials{
		Host: config.Host, Port: config.Port, Database: config.Database,
		SSLMode: params["sslmode"], SSLRootCert: params["sslrootcert"], ChannelBinding: params["channel_binding"],
		TargetSessionAttrs: params["target_session_attrs"], ConnectTimeout: params["connect_timeout"],
	}
	last := Endpoint{c.Host, c.Port}
	for _, fallback := range config.Fallbacks { // holds each server once more when TLS is optional
		if next := (Endpoint{fallback.Host, fallback.Port}); next != last {
			c.More = append(c.More, next)
			last = next
		}
	}
	if len(c.More) > 0 && c.ConnectTimeout == "" {
		c.ConnectTimeout = "2" // libpq would wait minutes for a first server that is cut off
	}
	for _, s := range c.settings() {
		if strings.ContainsAny(s.value, "\r\n") || strings.TrimSpace(s.value) != s.value {
			return Credentials{}, fmt.Errorf("value of %s cannot be written to a service file", s.name)
		}
	}
	return c, nil
}

// dsnParams returns the parameters that pgx understands but does not hand out again.
func dsnParams(dsn string) (map[string]string, error) {
	params := map[string]string{}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		_, query, _ := strings.Cut(dsn, "?")
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, errors.New("parameters of the DSN are no URL query") // err may quote a password
		}
		for name := range values {
			params[name] = values.Get(name)
		}
		return params, nil
	}
	for rest := strings.TrimSpace(dsn); rest != ""; {
		name, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, errors.New("the DSN is neither a URL nor a list of keyword=value")
		}
		var value string
		value, rest = keywordValue(strings.TrimSpace(after))
		params[strings.TrimSpace(name)] = value
	}
	return params, nil
}

// keywordValue splits off one value, quoted or not, with libpq's backslash escapes.
func keywordValue(text string) (value, rest string) {
	quoted := strings.HasPrefix(text, "'")
	text = strings.TrimPrefix(text, "'")
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case quoted && c == '\'', !quoted && strings.IndexByte(" \t\r\n\v\f", c) >= 0:
			return out.String(), strings.TrimSpace(text[i+1:])
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), ""
}

// WriteServiceFile puts the text at path, readable by uid only (mode 0600), whole or not at all, and
// durable. uid and gid of -1 keep the caller's. The file never replaces one with another text: a
// path belongs to one process life, and a fenced process that finds the new role at its old path
// would go on as that role. Writing the same text again is fine; else the error is
// ErrServiceFileUsed.
func WriteServiceFile(path string, text []byte, uid, gid int) error {
	temp, err := writeTemp(path, text, uid, gid)
	if err != nil {
		return fmt.Errorf("write service file: %w", err)
	}
	defer os.Remove(temp)
	// A link, other than a rename, fails when the name is taken.
	if err := os.Link(temp, path); errors.Is(err, fs.ErrExist) {
		there, readErr := os.ReadFile(path)
		if readErr != nil || !bytes.Equal(there, text) {
			return fmt.Errorf("write service file %s: %w", path, ErrServiceFileUsed)
		}
	} else if err != nil {
		return fmt.Errorf("write service file: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write service file: %w", err)
	}
	return nil
}

func writeTemp(path string, text []byte, uid, gid int) (name string, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	if _, err := file.Write(text); err != nil {
		return "", err
	}
	if uid != -1 || gid != -1 {
		if err := file.Chown(uid, gid); err != nil {
			return "", err
		}
	}
	return file.Name(), file.Sync()
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
