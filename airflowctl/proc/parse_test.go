package proc

import (
	"os"
	"reflect"
	"slices"
	"testing"
)

const (
	unifiedInfo = `22 27 0:21 / /proc rw,nosuid shared:5 - proc proc rw
29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
35 27 8:1 / /srv/a\040b\134c rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw
`
	hybridInfo = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	noneInfo = `22 27 0:21 / /proc rw - proc proc rw
32 31 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
a broken line
- cgroup2
`
	// A container without a cgroup namespace sees its own part only; two mounts, one with escapes.
	containerInfo = `50 49 0:26 /docker/abc /sys/fs/cgroup ro,nosuid master:9 - cgroup2 cgroup rw
51 49 0:26 / /mnt/all\040of\040it rw - cgroup2 cgroup rw
`
)

func TestMountsAndBases(t *testing.T) {
	cases := []struct {
		name, info, cgroup string
		mounts             []mount
		bases              []string
	}{
		{"unified under systemd", unifiedInfo, "0::/system.slice/duoflowd.service\n",
			[]mount{{"/", "/sys/fs/cgroup"}},
			[]string{"/sys/fs/cgroup/system.slice/duoflowd.service", "/sys/fs/cgroup"}},
		{"hybrid", hybridInfo, "9:name=systemd:/\n4:memory:/x\n0::/\n",
			[]mount{{"/", "/sys/fs/cgroup/unified"}},
			[]string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"}},
		{"none", noneInfo, "4:memory:/x\n", nil, nil},
		{"container", containerInfo, "0::/docker/abc/sub\n",
			[]mount{{"/docker/abc", "/sys/fs/cgroup"}, {"/", "/mnt/all of it"}},
			[]string{"/sys/fs/cgroup/sub", "/mnt/all of it/docker/abc/sub", "/sys/fs/cgroup", "/mnt/all of it"}},
		{"outside of the mount", containerInfo, "0::/docker/other\n",
			[]mount{{"/docker/abc", "/sys/fs/cgroup"}, {"/", "/mnt/all of it"}},
			[]string{"/mnt/all of it/docker/other", "/sys/fs/cgroup", "/mnt/all of it"}},
		{"removed cgroup", unifiedInfo, "0::/a (deleted)\n",
			[]mount{{"/", "/sys/fs/cgroup"}}, []string{"/sys/fs/cgroup"}},
		{"outside of the namespace", unifiedInfo, "0::/../b\n",
			[]mount{{"/", "/sys/fs/cgroup"}}, []string{"/sys/fs/cgroup"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := hierarchy{mounts: parseMounts(c.info)}
			if !reflect.DeepEqual(h.mounts, c.mounts) {
				t.Errorf("mounts %+v, want %+v", h.mounts, c.mounts)
			}
			if own, ok := parseOwn(c.cgroup); ok {
				h.own = own
			}
			if got := h.bases(); !slices.Equal(got, c.bases) {
				t.Errorf("bases %q, want %q", got, c.bases)
			}
		})
	}
}

func TestInside(t *testing.T) {
	h := hierarchy{mounts: parseMounts(unifiedInfo), own: "/s/duoflow/n/life/sub"}
	for dir, want := range map[string]bool{
		"/sys/fs/cgroup/s/duoflow/n/life": true, "/sys/fs/cgroup/s/duoflow/n/life/sub": true,
		"/sys/fs/cgroup/s/duoflow/n/li": false, "/sys/fs/cgroup/s/duoflow/n/life/sub/x": false,
	} {
		if got := h.inside(dir); got != want {
			t.Errorf("inside %s: %v", dir, got)
		}
	}
	if (hierarchy{mounts: h.mounts}).inside("/sys/fs/cgroup") {
		t.Error("inside without a known cgroup")
	}
}

func TestParseStat(t *testing.T) {
	text := "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 1 2 3\n"
	want := process{pid: 42, parent: 7, state: 'S', threads: 3, start: 98765, name: "a) b (c"}
	if got, ok := parseStat(42, []byte(text)); !ok || got != want {
		t.Errorf("got %+v", got)
	}
	for _, bad := range []string{"", "1 (x", "1 ) ( S", "1 (x) S 7", "1 (x) S p 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 3 0 9"} {
		if got, ok := parseStat(1, []byte(bad)); ok {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	self, ok := readProcess(os.Getpid())
	if !ok || self.parent != os.Getppid() || self.threads < 1 || self.zombie() {
		t.Errorf("self: %+v", self)
	}
	if got := innerPID(os.Getpid()); got != os.Getpid() {
		t.Errorf("inner pid %d", got)
	}
}

func TestDescendants(t *testing.T) {
	list := []process{
		{pid: 9, parent: 8}, {pid: 8, parent: 5}, {pid: 5, parent: 1}, {pid: 6, parent: 5}, {pid: 7, parent: 1},
		{pid: 20, parent: 21}, {pid: 21, parent: 20}, // a loop, as a moving table may show
	}
	var got []int
	for _, p := range descendants(list, 5) {
		got = append(got, p.pid)
	}
	slices.Sort(got)
	if !slices.Equal(got, []int{6, 8, 9}) {
		t.Errorf("got %v", got)
	}
	if n := len(descendants(list, 20)); n > 2 {
		t.Errorf("%d in a loop of two", n)
	}
}

func TestZombieMeansEveryThread(t *testing.T) {
	for _, c := range []struct {
		p    process
		want bool
	}{
		{process{state: 'Z', threads: 1}, true},
		{process{state: 'Z', threads: 2}, false},
		{process{state: 'T', threads: 1}, false},
	} {
		if got := c.p.zombie(); got != c.want {
			t.Errorf("%c with %d threads: %v", c.p.state, c.p.threads, got)
		}
	}
}

func TestInitIsKnownByLineOrName(t *testing.T) {
	f := &Forest{name: "a"}
	for _, c := range []struct {
		line, name string
		mode       Mode
		want       bool
	}{
		{"duoflow-init\x00--duoflow.init\x00pidns\x00a\x00one\x00", "exe", ModePIDNS, true},
		{"duoflow-init\x00--duoflow.init\x00group\x00a\x00one\x00", "exe", ModeGroup, true},
		{"duoflow-init\x00--duoflow.init\x00pidns\x00ab\x00one\x00", initComm("a"), "", false},
		{"", initComm("a"), "", true}, // dying: the memory with its arguments is gone
		{"", initComm("b"), "", false},
		{"sh\x00", initComm("a"), "", false},
	} {
		mode, ok := f.initMode([]byte(c.line), c.name)
		if mode != c.mode || ok != c.want {
			t.Errorf("%q %q: %q %v", c.line, c.name, mode, ok)
		}
	}
	if n := len(initComm("a")); n > 15 {
		t.Errorf("name of %d bytes", n)
	}
}
