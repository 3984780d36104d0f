package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const token = "0123456789abcdef0123456789abcdef"

func good() Config {
	return Config{Job: "scheduler", Management: "https://rabbit:15671/prefix", User: "duoflow", PasswordFile: "/p", AMQP: "rabbit:5672"}
}

func TestNames(t *testing.T) {
	for vhost, want := range map[string]string{
		"":        "df_.2f_scheduler_e12_01234567",
		"/":       "df_.2f_scheduler_e12_01234567",
		"airflow": "df_airflow_scheduler_e12_01234567",
		"a_e1":    "df_a.5fe1_scheduler_e12_01234567",
		"Ä.":      "df_.c3.84.2e_scheduler_e12_01234567",
	} {
		config := good()
		config.VHost = vhost
		got := userName(config, Claim{Epoch: 12, Token: token})
		if got != want || !ours(config, got) {
			t.Errorf("vhost %q: user %s, want %s", vhost, got, want)
		}
	}
	for _, other := range []string{
		"guest", "df_.2f_scheduler_e", "df_.2f_scheduler_e1", "df_.2f_scheduler_e0_01234567", "df_.2f_scheduler_e1_0123456",
		"df_.2f_scheduler_e1_012345678", "df_.2f_scheduler_e1_0123456X", "df_.2f_etl_e1_01234567", "df_airflow_scheduler_e1_01234567",
		"df_.2f_scheduler_e1_01234567\n", " df_.2f_scheduler_e1_01234567",
	} {
		if ours(good(), other) {
			t.Errorf("%q is taken for one of ours", other)
		}
	}
}

func TestFaults(t *testing.T) {
	if got := good().Faults(); len(got) != 0 {
		t.Errorf("faults %v in a good one", got)
	}
	for name, c := range map[string]struct {
		change func(*Config)
		key    string
	}{
		"no management":   {func(c *Config) { c.Management = "" }, "management"},
		"no URL":          {func(c *Config) { c.Management = "rabbit:15672" }, "management"},
		"a password":      {func(c *Config) { c.Management = "https://me:hush@rabbit:15671" }, "management"},
		"broken password": {func(c *Config) { c.Management = "https://me:hush%zz@rabbit:15671" }, "management"},
		"a query":         {func(c *Config) { c.Management = "https://rabbit?x=hush" }, "management"},
		"no user":         {func(c *Config) { c.User = "" }, "user"},
		"no file":         {func(c *Config) { c.PasswordFile = "" }, "password_file"},
		"idle ca":         {func(c *Config) { c.Management, c.CA = "http://rabbit:15672", "/ca" }, "ca"},
		"long vhost":      {func(c *Config) { c.VHost = strings.Repeat("/", 90) }, "vhost"},
		"no amqp":         {func(c *Config) { c.AMQP = "" }, "amqp"},
		"no port":         {func(c *Config) { c.AMQP = "rabbit" }, "amqp"},
	} {
		config := good()
		c.change(&config)
		got := config.Faults()
		if len(got) != 1 || got[0].Key != c.key || strings.Contains(got[0].Text, "hush") {
			t.Errorf("%s: %v", name, got)
		}
		if _, err := New(config); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: New says %v", name, err)
		}
	}
	if got := (Config{Job: "x"}).Faults(); len(got) != 4 {
		t.Errorf("an empty one has %v, want all at once", got)
	}
}

func TestCredentialsShowNoPassword(t *testing.T) {
	c := Credentials{AMQP: "rabbit:5672", VHost: "/a b%", User: "df_x", password: "hush"}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "credentials", c)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %s %v", c, c, c, &c), log.String()} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "df_x") {
			t.Errorf("shown: %s", text)
		}
	}
	u, err := url.Parse(c.URL())
	if err != nil {
		t.Fatal(err)
	}
	if password, _ := u.User.Password(); password != "hush" || u.Path != "//a b%" {
		t.Errorf("URL %s", c.URL())
	}
}

func TestBadClaims(t *testing.T) {
	f, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Claim{{}, {Epoch: 1}, {Epoch: 1, Token: "short"}, {Token: token}, {Epoch: maxEpoch + 1, Token: token}} {
		if _, err := f.Take(t.Context(), c, nil); err == nil {
			t.Errorf("claim %+v taken", c)
		}
		if _, err := f.Kept(t.Context(), c); err == nil {
			t.Errorf("claim %+v looked for", c)
		}
		if err := f.Release(t.Context(), c); err == nil {
			t.Errorf("claim %+v released", c)
		}
	}
}

// TestACloseThatFailsIsLookedAt: RabbitMQ answers 500 when a connection ends by itself while it is closed. Whether one is left, the
// list says.
func TestACloseThatFailsIsLookedAt(t *testing.T) {
	var asked []string
	left := 2 // looks at the list until the connection is gone
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := r.Method + " " + strings.Split(strings.TrimPrefix(r.URL.Path, "/api/"), "/")[0]
		asked = append(asked, what)
		switch what {
		case "DELETE connections":
			w.WriteHeader(http.StatusInternalServerError)
		case "GET connections":
			left--
			fmt.Fprint(w, [...]string{"[]", `[{"name":"one"}]`}[min(max(left, 0), 1)])
		}
	}))
	defer server.Close()
	c := good()
	c.Management, c.PasswordFile = server.URL, filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(c.PasswordFile, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.close(t.Context(), "user"); err != nil || left != 0 {
		t.Errorf("%v, %d looks to go; asked %v", err, left, asked)
	}
	left = 1 << 30
	late, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := f.close(late, "user"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that stays: %v", err)
	}
}

// TestAdministrator: a list of tags since RabbitMQ 3.9, a text with commas before.
func TestAdministrator(t *testing.T) {
	for text, want := range map[string]bool{
		`["administrator"]`: true, `["management","administrator"]`: true, `["management"]`: false, `[]`: false,
		`"administrator"`: true, `"administrator,management"`: true, `"monitoring,administrator"`: true, `"administrators"`: false, `""`: false, `null`: false, `7`: false,
	} {
		var tags any
		if err := json.Unmarshal([]byte(text), &tags); err != nil {
			t.Fatal(err)
		}
		if got := administrator(tags); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
