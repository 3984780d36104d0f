package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// teller writes rows, says what it does, and a lot besides.
const teller = `echo "at work" > "$DUOFLOW_STATUS_FILE"
` + talker

// scrapeConfig is a Prometheus that looks at the three nodes as an operator does, with our alert rules.
const scrapeConfig = `global: {scrape_interval: 200ms, evaluation_interval: 500ms}
rule_files: [%s]
scrape_configs:
  - job_name: duoflow
    scheme: https
    tls_config: {ca_file: %s/ca.pem, cert_file: %[2]s/lab.pem, key_file: %[2]s/lab.key}
    static_configs: [{targets: [%s], labels: {cluster: lab}}]
`

// observatory is a real Prometheus that looks at a cluster.
type observatory struct {
	t   *testing.T
	url string
}

// observe starts one. It ends with the test.
func observe(t *testing.T, l *lab.Lab, c *lab.Cluster) *observatory {
	t.Helper()
	rules, err := filepath.Abs("../monitoring/alerts.yml")
	must(t, err)
	var targets []string
	for _, n := range c.Nodes {
		targets = append(targets, fmt.Sprintf("%q", n.HTTP()))
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, scrapeConfig, rules, filepath.Join(l.Dir, "tls"), strings.Join(targets, ", ")), 0o600))
	command(t, "promtool", "check", "config", config)
	port, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := port.Addr().String()
	must(t, port.Close())
	cmd := exec.Command("prometheus", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	o := &observatory{t, "http://" + address}
	eventually(t, "Prometheus is ready", func() bool {
		answer, err := http.Get(o.url + "/-/ready")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return o
}

// get asks the API and decodes what is under data.
func (o *observatory) get(path string, data any) {
	o.t.Helper()
	answer, err := http.Get(o.url + path)
	must(o.t, err)
	defer answer.Body.Close()
	var out struct {
		Status, Error string
		Data          json.RawMessage
	}
	must(o.t, json.NewDecoder(answer.Body).Decode(&out))
	if out.Status != "success" {
		o.t.Fatalf("%s: %s", path, out.Error)
	}
	must(o.t, json.Unmarshal(out.Data, data))
}

// yields tells whether a query has a result.
func (o *observatory) yields(query string) bool {
	o.t.Helper()
	var data struct{ Result []json.RawMessage }
	o.get("/api/v1/query?query="+url.QueryEscape(query), &data)
	return len(data.Result) > 0
}

// sees waits until a query has a result.
func (o *observatory) sees(query string) {
	o.t.Helper()
	for limit := time.Now().Add(time.Minute); !o.yields(query); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(limit) {
			var data struct {
				ActiveTargets []struct{ ScrapeURL, LastError string }
			}
			o.get("/api/v1/targets", &data)
			o.t.Fatalf("never seen: %s\n%+v", query, data)
		}
	}
}

// names are our metrics, those that Prometheus has.
func (o *observatory) names() []string {
	o.t.Helper()
	var all []string
	o.get("/api/v1/label/__name__/values", &all)
	return slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, "duoflow_") })
}

// constant are the metrics that say what a node is; of a running one they do not change.
var constant = []string{"duoflow_build_info", "duoflow_witness"}

// elsewhere are those of a job that is an Airflow (TestClusterTakesAirflowOver), of a network that is bad for long
// (TestDetectionTime in package control) and of hooks that hang (TestHooks).
var elsewhere = []string{"duoflow_standby_warm", "duoflow_detection_seconds", "duoflow_hooks_waiting"}

// named are 1 for the label that holds: they come and go, and what they are about is awaited in move.
var named = []string{"duoflow_job_state"}

// TestPrometheus: the real one reads our metrics and our rules, and each metric moves with what it is about.
func TestPrometheus(t *testing.T) {
	s, disks := newScene(t, realDisk, teller)
	o := observe(t, s.lab, s.c)
	o.sees(`count(up == 1) == 3`)
	o.rulesAreWell()
	o.move(s, disks)
	for _, name := range o.names() {
		if slices.Contains(slices.Concat(constant, elsewhere, named), name) {
			continue
		}
		if query := fmt.Sprintf(`max(changes(%s[10m])) > 0`, name); !o.yields(query) {
			t.Errorf("%s never moved", name)
		}
	}
	checkDashboard(t, o.names())
}

func (o *observatory) rulesAreWell() {
	o.t.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	eventually(o.t, "all rules are evaluated", func() bool {
		o.get("/api/v1/rules", &data)
		return len(data.Groups) == 1 && !strings.Contains(fmt.Sprint(data.Groups), "unknown")
	})
	if n := len(data.Groups[0].Rules); n < 15 {
		o.t.Errorf("%d rules", n)
	}
	for _, r := range data.Groups[0].Rules {
		if r.Health != "ok" {
			o.t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
		}
	}
}

// move does to the cluster what the metrics are about.
func (o *observatory) move(s *scene, disks map[string]*disk) {
	o.t.Helper()
	s.move()
	o.sees(`duoflow_job_state{duoflow_job="scheduler",state="active"} == 1 and on () max(duoflow_job_epoch{duoflow_job="scheduler"}) == 2`)

	thaw := disks[s.standby].freeze()
	s.stir()
	o.sees(`duoflow_log_stuck_seconds > 0`)
	thaw()
	o.sees(`max(duoflow_log_stuck_seconds) == 0`)

	conn, err := net.Dial("tcp", s.c.Nodes["t"].Peer())
	must(o.t, err)
	_, err = conn.Write([]byte("hello\n\n\n\n"))
	must(o.t, err)
	o.sees(`duoflow_peer_refused_total > 0`)
	must(o.t, conn.Close())

	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	must(o.t, s.c.Metastore().Stop(ctx))
	o.sees(`duoflow_metastore_healthy == 0`)
	must(o.t, s.c.Metastore().Restart(ctx))
	o.sees(`min(duoflow_metastore_healthy) == 1`)
	s.awaitBack()

	// The holder is not heard while it is known that the other host does not reach the metastore: it stays suspected.
	awaitLeader(ctx, o.t, s.c, "t")
	holder := s.c.Nodes[s.active.Node]
	must(o.t, s.lab.Net.Cut(ctx, s.standby, lab.Hub))
	eventually(o.t, "the standby cannot take over", func() bool { return !s.eligible(s.standby) })
	must(o.t, holder.Freeze(ctx))
	o.sees(`duoflow_job_suspected == 1`)
	o.sees(`duoflow_peer_connected == 0`)
	must(o.t, s.lab.Net.HealAll(ctx))
	must(o.t, holder.Thaw(ctx))
	s.awaitBack()

	// A node without its disk, and without anybody who could tell it what was on it.
	lost := s.c.Nodes[s.standby]
	for _, pair := range [][2]string{{"a", "t"}, {"b", "t"}, {"a", "b"}} {
		must(o.t, s.lab.Net.Cut(ctx, pair[0], pair[1]))
	}
	o.sees(`max(duoflow_quorum) == 0`)
	o.sees(`duoflow_gossip_members{state!="alive"} > 0`)
	must(o.t, lost.KillDaemon())
	must(o.t, os.RemoveAll(filepath.Join(lost.DataDir(), "raft")))
	o.sees(`duoflow_log_in_doubt == 1`)
	must(o.t, s.lab.Net.HealAll(ctx))
	o.sees(`max(duoflow_log_in_doubt) == 0`)
	s.awaitBack()

	mustCtl(ctx, o.t, s.c, "pause", "--level", "grants", "--yes")
	o.sees(`duoflow_job_paused{level="grants"} == 1`)
	mustCtl(ctx, o.t, s.c, "resume", "--yes")
	o.sees(`max(duoflow_job_paused) == 0`)
	renewed := filepath.Join(o.t.TempDir(), "renewed")
	tls := filepath.Join(s.lab.Dir, "tls")
	mustCtl(ctx, o.t, s.c, "tls", "issue", "--authority", tls, "--node", "t="+hostOf(o.t, s.c.Nodes["t"].Peer()), "--days", "9", "--out", renewed)
	must(o.t, os.Rename(filepath.Join(renewed, "t.key"), filepath.Join(tls, "t.key")))
	must(o.t, os.Rename(filepath.Join(renewed, "t.pem"), filepath.Join(tls, "t.pem")))
	o.sees(`ALERTS{alertname="DuoflowCertificateEnds", alertstate="firing"}`)

	empty := disks[s.active.Node].fill()
	o.sees(`duoflow_job_output_lost_lines > 0`)
	empty()
}

// eligible tells whether the leader would give a node the job.
func (s *scene) eligible(node string) bool {
	status, err := s.c.Status(s.ctx)
	if err != nil || !status.GetView().GetAuthoritative() {
		return true
	}
	for _, job := range status.GetJobs() {
		for _, on := range job.GetNodes() {
			if job.GetName() == "scheduler" && on.GetNode() == node {
				return on.GetEligible()
			}
		}
	}
	return true
}

// awaitBack waits until the job is active on one host and the other one stands by.
func (s *scene) awaitBack() {
	s.t.Helper()
	eventuallyWithin(s.t, time.Minute, "one host is active and the other stands by", func() bool {
		status, err := s.c.Status(s.ctx)
		if err != nil || !status.GetView().GetAuthoritative() {
			return false
		}
		for _, job := range status.GetJobs() {
			if job.GetName() != "scheduler" {
				continue
			}
			states := map[string]string{}
			for _, on := range job.GetNodes() {
				states[on.GetNode()] = on.GetState()
			}
			s.active = lab.Active{Node: job.GetHolder(), Epoch: job.GetEpoch()}
			s.standby = other(job.GetHolder())
			return states[job.GetHolder()] == "active" && states[s.standby] == "standby"
		}
		return false
	})
}

// checkDashboard wants every metric to be shown, and nothing that there is not.
func checkDashboard(t *testing.T, names []string) {
	t.Helper()
	text, err := os.ReadFile("../monitoring/dashboard.json")
	must(t, err)
	for _, name := range names {
		for _, ending := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, ending)
		}
		if !strings.Contains(string(text), name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	host, _, err := net.SplitHostPort(address)
	must(t, err)
	return host
}
