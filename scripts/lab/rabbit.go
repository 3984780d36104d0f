package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// rabbitAccount is the user that Debian's package makes; the server's script refuses root.
const (
	rabbitAccount = "rabbitmq"
	rabbitServer  = "/usr/lib/rabbitmq/bin/rabbitmq-server"
)

// Rabbit is a RabbitMQ server on the hub's address and on 127.0.0.1.
type Rabbit struct {
	Port       int // AMQP
	Management int // HTTP API; 0 = not started

	host, password string
	process        *Process
}

// RabbitOptions say how the broker is started.
type RabbitOptions struct {
	Management bool // with the management API, which makes the start some seconds slower
}

// StartRabbit starts RabbitMQ and returns when it speaks AMQP. Its port mapper (epmd) is its own and
// ends with it.
func (l *Lab) StartRabbit(ctx context.Context, options RabbitOptions) (*Rabbit, error) {
	began := time.Now()
	if _, err := os.Stat(rabbitServer); err != nil {
		return nil, fmt.Errorf("find RabbitMQ: %w; run scripts/setup services", err)
	}
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	r := &Rabbit{Port: ports[0], host: l.Hub().Addr, password: rand.Text()}
	if options.Management {
		r.Management = ports[3]
	}
	dir := filepath.Join(l.Dir, "rabbit")
	if err := r.writeFiles(dir); err != nil {
		return nil, err
	}
	env := append(rabbitEnv(dir, ports[1]), fmt.Sprintf("ERL_EPMD_PORT=%d", ports[2]),
		fmt.Sprintf("RABBITMQ_NODENAME=lab%d@localhost", l.claim.number))
	start := func(name string, args ...string) (*Process, error) {
		return l.Hub().Start(Spec{Name: name, Args: args, Env: env, User: rabbitAccount, Dir: dir})
	}
	if _, err = start("epmd", "epmd", "-address", "127.0.0.1"); err != nil {
		return nil, err
	}
	if r.process, err = start("rabbit", rabbitServer); err != nil {
		return nil, err
	}
	if err := r.process.await(ctx, "rabbitmq", r.answers); err != nil {
		return nil, err
	}
	l.logger.Info("rabbitmq ready", "port", r.Port, "took", time.Since(began))
	return r, nil
}

// URL is the broker's address with user and password, for Celery.
func (r *Rabbit) URL() string {
	return (&url.URL{Scheme: "amqp", User: url.UserPassword("airflow", r.password), Host: r.addr(), Path: "//"}).String()
}

// ManagementURL is the HTTP API's address without user and password; "" when it was not asked for.
func (r *Rabbit) ManagementURL() string {
	if r.Management == 0 {
		return ""
	}
	return "http://" + net.JoinHostPort(r.host, strconv.Itoa(r.Management))
}

// Account is the broker's administrator.
func (r *Rabbit) Account() (user, password string) { return "airflow", r.password }

// Process is the server, to kill or stop it.
func (r *Rabbit) Process() *Process { return r.process }

func (r *Rabbit) addr() string { return net.JoinHostPort(r.host, strconv.Itoa(r.Port)) }

func (r *Rabbit) writeFiles(dir string) error {
	conf := fmt.Sprintf(`listeners.tcp.1 = %s
listeners.tcp.2 = 127.0.0.1:%d
loopback_users = none
default_user = airflow
default_pass = %s
default_user_tags.administrator = true
log.console = true
log.file = false
`, r.addr(), r.Port, r.password)
	plugins := "[]."
	if r.Management != 0 {
		conf += fmt.Sprintf("management.tcp.ip = %s\nmanagement.tcp.port = %d\n", r.host, r.Management)
		plugins = "[rabbitmq_management]."
	}
	account, err := credential(rabbitAccount)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o755); err != nil {
		return fmt.Errorf("make folder of rabbitmq: %w", err)
	}
	for name, text := range map[string]string{"rabbit.conf": conf, "plugins": plugins, "env": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write configuration of rabbitmq: %w", err)
		}
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, int(account.Uid), int(account.Gid)))
	})
}

// rabbitEnv keeps all files below dir. One Erlang scheduler without busy waiting is enough here and
// leaves the cores to the others.
func rabbitEnv(dir string, distPort int) []string {
	in := func(name string) string { return filepath.Join(dir, name) }
	return []string{
		"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + dir,
		"RABBITMQ_MNESIA_BASE=" + in("data"), "RABBITMQ_LOG_BASE=" + in("log"),
		"RABBITMQ_CONFIG_FILE=" + in("rabbit.conf"), "RABBITMQ_CONF_ENV_FILE=" + in("env"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + in("none.config"), "RABBITMQ_GENERATED_CONFIG_DIR=" + in("config"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + in("plugins"), "RABBITMQ_PID_FILE=" + in("pid"),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", distPort),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
	}
}

// answers asks for an AMQP connection: the port alone opens before the broker can serve.
func (r *Rabbit) answers(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", r.addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("AMQP\x00\x00\x09\x01")); err != nil {
		return err
	}
	first := make([]byte, 1)
	if _, err := conn.Read(first); err != nil {
		return err
	}
	if first[0] != 1 { // a method frame: Connection.Start
		return errors.New("the answer is not AMQP")
	}
	return nil
}

// freePorts finds ports that nobody listens on now, on any address.
func freePorts(count int) ([]int, error) {
	var ports []int
	for range count {
		listener, err := net.Listen("tcp4", ":0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close() // all stay taken until all are chosen
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
