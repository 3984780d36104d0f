package lab_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/duoflow/duoflow/scripts/lab"
)

// papers are the certificates of a cluster whose nodes each have a folder of their own for them.
type papers struct {
	ctx  context.Context
	t    *testing.T
	l    *lab.Lab
	c    *lab.Cluster
	conn *pgx.Conn
	at   lab.Active
}

// shown is the operators' authority and certificates, in the lab's own folder; nodes have theirs beside their configuration.
func (p *papers) shown(parts ...string) string {
	return filepath.Join(append([]string{p.l.Dir, "tls"}, parts...)...)
}

func (p *papers) of(node, name string) string {
	return filepath.Join(filepath.Dir(p.c.Nodes[node].ConfigPath()), "papers", name)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return text
}

// put moves a file over another one, as an administrator should.
func put(t *testing.T, path string, text []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path+".next", text, 0o600))
	must(t, os.Rename(path+".next", path))
}

// give gives a node a certificate from a folder, the key first.
func (p *papers) give(node, from string) {
	p.t.Helper()
	put(p.t, p.of(node, "node.key"), read(p.t, filepath.Join(from, node+".key")))
	put(p.t, p.of(node, "node.pem"), read(p.t, filepath.Join(from, node+".pem")))
}

// each does something to all nodes, one after the other.
func (p *papers) each(do func(node string)) {
	for _, node := range []string{"t", other(p.at.Node), p.at.Node} {
		do(node)
	}
}

// reconnect has all three pairs of nodes connect anew without touching the holder: the witness and then the standby start again.
func (p *papers) reconnect() {
	p.t.Helper()
	for _, node := range []string{"t", other(p.at.Node)} {
		must(p.t, p.c.Nodes[node].StopDaemon(p.ctx))
		must(p.t, p.c.Nodes[node].Start())
		web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: operatorTLS(p.t, p.l)}}
		eventuallyWithin(p.t, time.Minute, "all are connected again", func() bool {
			for from, n := range p.c.Nodes {
				for to := range p.c.Nodes {
					answer, err := web.Get("https://" + n.HTTP() + "/metrics")
					if err != nil {
						return false
					}
					if value, _ := valueOf(answer, `duoflow_peer_connected{peer="`+to+`"}`); from != to && value != 1 {
						return false
					}
				}
			}
			return true
		})
		web.CloseIdleConnections()
	}
}

// unmoved wants the job to be where it was all the time, and to work.
func (p *papers) unmoved(after string) {
	p.t.Helper()
	status, err := p.c.Status(p.ctx)
	must(p.t, err)
	if now := status.GetJobs()[0]; now.GetEpoch() != p.at.Epoch || now.GetHolder() != p.at.Node {
		p.t.Fatalf("%s: epoch %d on %s, want %+v: %s", after, now.GetEpoch(), now.GetHolder(), p.at, mustCtl(p.ctx, p.t, p.c, "history"))
	}
	var last, next int64
	newest := "SELECT coalesce(max(id), 0) FROM public.work WHERE epoch = $1"
	must(p.t, p.conn.QueryRow(p.ctx, newest, int64(p.at.Epoch)).Scan(&last))
	eventuallyWithin(p.t, time.Minute, "the job goes on", func() bool {
		must(p.t, p.conn.QueryRow(p.ctx, newest, int64(p.at.Epoch)).Scan(&next))
		return next > last
	})
}

// showsNow wants every port of every node to show a certificate of that authority.
func (p *papers) showsNow(authority string) {
	p.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(read(p.t, filepath.Join(authority, "ca.pem")))
	for node, n := range p.c.Nodes {
		want := certificateIn(p.t, filepath.Join(authority, node+".pem"))
		for _, port := range []string{n.Peer(), n.Admin(), n.HTTP()} {
			conn, err := tls.Dial("tcp", port, &tls.Config{RootCAs: pool})
			must(p.t, err)
			if got := conn.ConnectionState().PeerCertificates[0]; got.SerialNumber.Cmp(want.SerialNumber) != 0 {
				p.t.Errorf("%s of %s shows serial %s, want %s", port, node, got.SerialNumber, want.SerialNumber)
			}
			_ = conn.Close()
		}
	}
}

func certificateIn(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(read(t, path))
	if block == nil {
		t.Fatalf("%s is no PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return cert
}

// ctl is duoctl where it has to end well.
func (p *papers) ctl(args ...string) { p.t.Helper(); mustCtl(p.ctx, p.t, p.c, args...) }

// begin starts the cluster with papers of its own for each node.
func begin(ctx context.Context, t *testing.T, l *lab.Lab) *papers {
	t.Helper()
	c, conn := prepared(ctx, t, l, lab.ClusterOptions{
		Jobs: map[string]lab.Job{"scheduler": shell(writer)}, Detection: "wan", // a full machine is no reason to move
	})
	p := &papers{ctx: ctx, t: t, l: l, c: c, conn: conn}
	for node, n := range c.Nodes {
		p.give(node, p.shown())
		put(t, p.of(node, "ca.pem"), read(t, p.shown("ca.pem")))
		put(t, p.of(node, "gossip.key"), read(t, p.shown("gossip.key")))
		must(t, n.WriteConfig(func(config map[string]any) {
			config["tls"] = map[string]any{
				"ca": p.of(node, "ca.pem"), "cert": p.of(node, "node.pem"), "key": p.of(node, "node.key"), "revoked": p.of(node, "revoked.pem"),
			}
			config["gossip"] = map[string]any{"keyring": p.of(node, "gossip.key")}
		}))
	}
	must(t, c.Start())
	var err error
	p.at, err = c.AwaitActive(ctx, "scheduler", 0)
	must(t, err)
	awaitRow(ctx, t, conn, p.at)
	return p
}

// TestCertificates: all certificates are replaced, then the authority too, and the job does not notice. Then everybody who has no
// business at a port is told so there, and in the log.
func TestCertificates(t *testing.T) {
	l := up(t)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	p := begin(ctx, t, l)
	renewed, next := filepath.Join(l.Dir, "renewed"), filepath.Join(l.Dir, "next")
	args := []string{"tls", "init", "--out", next, "--operator", "lab"}
	for node := range p.c.Nodes {
		p.ctl("tls", "issue", "--authority", p.shown(), "--out", renewed, "--node", node+"="+l.Net.Addr(node))
		args = append(args, "--node", node+"="+l.Net.Addr(node))
	}
	p.ctl(args...)
	put(t, filepath.Join(renewed, "ca.pem"), read(t, p.shown("ca.pem")))

	p.each(func(node string) { p.give(node, renewed) })
	p.showsNow(renewed)
	p.reconnect()
	p.unmoved("new certificates")

	both := append(read(t, p.shown("ca.pem")), read(t, filepath.Join(next, "ca.pem"))...)
	p.each(func(node string) { put(t, p.of(node, "ca.pem"), both) })
	put(t, p.shown("ca.pem"), both)
	p.reconnect()
	p.each(func(node string) { p.give(node, next); p.reconnect() }) // nodes of either authority beside each other
	p.unmoved("a second authority")
	before := p.shown("before")
	for _, name := range []string{"lab.pem", "lab.key"} {
		put(t, filepath.Join(before, name), read(t, p.shown(name)))
		put(t, p.shown(name), read(t, filepath.Join(next, name)))
	}
	p.each(func(node string) { put(t, p.of(node, "ca.pem"), read(t, filepath.Join(next, "ca.pem"))) })
	put(t, p.shown("ca.pem"), read(t, filepath.Join(next, "ca.pem")))
	p.showsNow(next)
	p.reconnect()
	p.unmoved("the new authority alone")

	p.ctl("tls", "issue", "--authority", next, "--out", p.shown("olga"), "--operator", "olga", "--role", "operator")
	olga := []string{"--cert", p.shown("olga", "olga.pem"), "--key", p.shown("olga", "olga.key")}
	p.ctl(append([]string{"status"}, olga...)...)
	p.ctl("tls", "revoke", "--authority", next, "--out", p.shown("revoked.pem"), p.shown("olga", "olga.pem"))
	p.each(func(node string) { put(t, p.of(node, "revoked.pem"), read(t, p.shown("revoked.pem"))) })
	output, code, err := p.c.Ctl(ctx, append([]string{"status"}, olga...)...)
	must(t, err)
	if code != 1 || !strings.Contains(output, "revoked") {
		t.Errorf("status of a revoked operator: exit code %d, %s", code, output)
	}
	p.gossipKeys()
	p.refusals(next, before)
	p.unmoved("all who were refused")
	p.takeBack(other(p.at.Node), next)
	p.unmoved("a node that was refused")
}

// takeBack revokes a node's certificate while it is connected, and gives it another.
func (p *papers) takeBack(node, authority string) {
	p.t.Helper()
	web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: operatorTLS(p.t, p.l)}}
	holder := p.c.Nodes[p.at.Node]
	before := metric(p.t, web, holder, `duoflow_peer_refused_total{reason="revoked"}`)
	p.ctl("tls", "revoke", "--authority", authority, "--out", p.shown("revoked.pem"), filepath.Join(authority, node+".pem"))
	for _, to := range []string{"t", p.at.Node} {
		put(p.t, p.of(to, "revoked.pem"), read(p.t, p.shown("revoked.pem")))
	}
	eventuallyWithin(p.t, time.Minute, "the holder refuses "+node, func() bool {
		return metric(p.t, web, holder, `duoflow_peer_refused_total{reason="revoked"}`) > before
	})
	again := filepath.Join(p.l.Dir, "again")
	p.ctl("tls", "issue", "--authority", authority, "--out", again, "--node", node+"="+p.l.Net.Addr(node))
	p.give(node, again)
	eventuallyWithin(p.t, time.Minute, node+" is heard again", func() bool {
		answer, err := web.Get("https://" + holder.HTTP() + "/metrics")
		must(p.t, err)
		age, ok := valueOf(answer, `duoflow_beat_age_seconds{peer="`+node+`"}`)
		return ok && age < 1 && metric(p.t, web, holder, `duoflow_peer_connected{peer="`+node+`"}`) == 1
	})
}

// gossipKeys changes the key of the members, whom nobody loses meanwhile.
func (p *papers) gossipKeys() {
	p.t.Helper()
	ring := p.shown("gossip.key")
	step := func(args ...string) (names []string) {
		p.t.Helper()
		output := mustCtl(p.ctx, p.t, p.c, append([]string{"tls", "gossip-key", "-o", "json", "--keyring", ring}, args...)...)
		var answer struct{ Keys []struct{ Name string } }
		must(p.t, json.Unmarshal([]byte(output), &answer))
		for _, key := range answer.Keys {
			names = append(names, key.Name)
		}
		if args[0] == "list" {
			return names
		}
		p.each(func(node string) { put(p.t, p.of(node, "gossip.key"), read(p.t, ring)) })
		said := fmt.Sprintf("msg=\"changed gossip keys are used from now on\" keys=%s\n", strings.Join(names, " "))
		if len(names) > 1 {
			said = strings.Replace(said, "keys=", "keys=\"", 1)
			said = strings.Replace(said, "\n", "\"\n", 1)
		}
		for _, n := range p.c.Nodes {
			eventuallyWithin(p.t, time.Minute, n.Name+" says that it has taken "+strings.Join(names, " "), func() bool {
				return strings.Contains(string(read(p.t, n.LogPath())), said)
			})
		}
		status, err := p.c.Status(p.ctx)
		must(p.t, err)
		for _, n := range status.GetNodes() {
			if state := n.GetGossipState(); state == "dead" || state == "left" {
				p.t.Errorf("after %v %s is %s", args, n.GetName(), state)
			}
		}
		return names
	}
	old := step("list")[0]
	step("promote", step("add")[1])
	if left := step("remove", old); len(left) != 1 || left[0] == old {
		p.t.Errorf("%v are left of %s", left, old)
	}
	eventuallyWithin(p.t, time.Minute, "all are alive", func() bool {
		status, err := p.c.Status(p.ctx)
		must(p.t, err)
		for _, n := range status.GetNodes() {
			if n.GetGossipState() != "alive" {
				return false
			}
		}
		return len(status.GetNodes()) == len(p.c.Nodes)
	})
}

// refusals has everybody knock at the holder's ports who is to be refused there, and wants the reason in its log and, of the peers'
// port, in the metric.
func (p *papers) refusals(authority, foreign string) {
	p.t.Helper()
	n := p.c.Nodes[p.at.Node]
	web := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: operatorTLS(p.t, p.l)}}
	revoked, stranger := pairIn(p.t, p.shown("olga", "olga")), pairIn(p.t, filepath.Join(foreign, "lab"))
	expired, peer := ended(p.t, authority), pairIn(p.t, filepath.Join(authority, "t"))
	operator := pairIn(p.t, filepath.Join(authority, "lab"))
	for _, port := range []struct {
		name, addr string
		who        tls.Certificate // who may speak there
		huge       []byte          // what is too long
	}{
		{"peer", n.Peer(), peer, hugeFrame}, {"admin", n.Admin(), operator, hugeFrame},
		{"http", n.HTTP(), operator, []byte("GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")},
	} {
		for _, knock := range []struct {
			reason, says string
			who          *tls.Certificate // nil: plain text
			text         []byte
		}{
			{"plain", "", nil, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
			{"handshake", "unknown authority", &stranger, nil},
			{"expired", "expired", &expired, nil},
			{"revoked", "the certificate is revoked: \\\"olga\\\"", &revoked, nil},
			{"protocol", "", &port.who, port.huge},
		} {
			counted := `duoflow_peer_refused_total{reason="` + knock.reason + `"}`
			before := metric(p.t, web, n, counted)
			line := regexp.MustCompile(`turned away.* port=` + port.name + ` reason=` + knock.reason + ` .*` + regexp.QuoteMeta(knock.says))
			eventuallyWithin(p.t, time.Minute, port.name+" refuses "+knock.reason+" and says so", func() bool {
				present(port.addr, knock.who, knock.text)
				return line.Match(read(p.t, n.LogPath()))
			})
			if after := metric(p.t, web, n, counted); port.name == "peer" && after <= before {
				p.t.Errorf("%s is %v as before", counted, after)
			}
		}
	}
	p.gossipRefusals(n)
}

// gossipRefusals is the same for the members' port, which has keys in place of certificates.
func (p *papers) gossipRefusals(n *lab.Node) {
	p.t.Helper()
	name := regexp.MustCompile(`(?m)^cluster: (\S+)$`).FindSubmatch(read(p.t, n.ConfigPath()))[1]
	label := func(name []byte, text string) []byte {
		return append(append([]byte{244, byte(len(name))}, name...), text...)
	}
	for reason, text := range map[string][]byte{
		"cluster": label([]byte("another"), "\x0a\x00\x00\x00\x40"+strings.Repeat("x", 64)),
		"key":     label(name, "\x0a\x00\x00\x00\x40\x01"+strings.Repeat("x", 63)),
		"message": label(name, "\x0a\xff\x00\x00\x00"),
	} {
		eventuallyWithin(p.t, time.Minute, "gossip refuses "+reason+" and says so", func() bool {
			present(n.Gossip(), nil, text)
			return strings.Contains(string(read(p.t, n.LogPath())), "port=gossip reason="+reason)
		})
	}
}

// hugeFrame opens HTTP/2 and sends a frame that is longer than any may be.
var hugeFrame = append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x01"), make([]byte, 1<<20)...)

// present says something at a port, over TLS if there is somebody to show, and listens until it is turned away.
func present(addr string, who *tls.Certificate, text []byte) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
	if who != nil {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*who}, NextProtos: []string{"h2", "http/1.1"}})
	}
	_, _ = conn.Write(text) // refused at any byte
	_, _ = io.Copy(io.Discard, conn)
}

func pairIn(t *testing.T, path string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(path+".pem", path+".key")
	must(t, err)
	return pair
}

// ended is the certificate of an operator that was valid until a minute ago.
func ended(t *testing.T, authority string) tls.Certificate {
	t.Helper()
	block, _ := pem.Decode(read(t, filepath.Join(authority, "ca.key")))
	signer, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "olaf", OrganizationalUnit: []string{"operator"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(-time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, certificateIn(t, filepath.Join(authority, "ca.pem")), key.Public(), signer)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
