package etcd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/scripts/etcd"
)

func TestMember(t *testing.T) {
	c := etcd.Cluster{
		Bin: "/bin", Data: "/data", Hosts: []string{"a", "b"}, Beat: 20 * time.Millisecond, Election: time.Second,
		Addr: func(host string) string { return map[string]string{"a": "10.0.0.1", "b": "10.0.0.2"}[host] },
	}
	line := strings.Join(c.Member("b"), " ")
	for _, want := range []string{
		"/bin/etcd --name b --data-dir /data/b ", "--listen-client-urls http://10.0.0.2:2379 ",
		"--listen-peer-urls http://10.0.0.2:2380 ", "--initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380 ",
		"--heartbeat-interval 20 --election-timeout 1000",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
}

func TestBuildKnowsItsPrograms(t *testing.T) {
	if dir, err := etcd.Build(t.Context(), "etcdutl"); err == nil {
		t.Errorf("it built a program that it does not know, in %s", dir)
	}
}
