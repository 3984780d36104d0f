package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// FuzzParseStat: a process may call itself what it likes, and is still seen with the parent, state and start that the kernel wrote.
func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 10 20 8 9 20 0 5 0 99\n"), "sleep", 1, 3, uint64(77))
	f.Add([]byte("7 () Z"), ") Z 1 (", 0, 1, uint64(0))
	f.Fuzz(func(t *testing.T, text []byte, name string, parent, threads int, start uint64) {
		if p, ok := parseStat(7, text); ok && (p.pid != 7 || !bytes.Contains(text, []byte("("+p.name+")"))) || !ok && p != (process{}) {
			t.Fatalf("%q became %+v, %v", text, p, ok)
		}
		if strings.Contains(name, "\x00") {
			return
		}
		line := fmt.Sprintf("7 (%s) T %d 7 7 0 -1 0 1 2 3 4 10 20 8 9 20 0 %d 0 %d 1 2 3\n", name, parent, threads, start)
		want := process{pid: 7, parent: parent, state: 'T', threads: threads, start: start, name: name}
		if p, ok := parseStat(7, []byte(line)); !ok || p != want {
			t.Fatalf("%q became %+v, %v", line, p, ok)
		}
	})
}

// FuzzParseMounts: whatever stands in mountinfo, every place found is on a line of a cgroup2 mount, and a path below its root is found
// below its point.
func FuzzParseMounts(f *testing.F) {
	f.Add("38 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n", "0::/user.slice/x\n")
	f.Add("38 31 0:38 /a\\040b /mnt\\134x rw - cgroup2 cgroup2 rw\n1 2 - cgroup2 ", "1:name=x:/\n0::/../y (deleted)\n")
	f.Fuzz(func(t *testing.T, mountinfo, cgroup string) {
		mounts := parseMounts(mountinfo)
		if len(mounts) > strings.Count(mountinfo, " - cgroup2 ") {
			t.Fatalf("%q has %d mounts", mountinfo, len(mounts))
		}
		own, ok := parseOwn(cgroup)
		if ok && (!filepath.IsAbs(own) || !strings.Contains(cgroup, "0::"+own)) {
			t.Fatalf("%q became %q", cgroup, own)
		}
		for _, m := range mounts {
			if dir, found := m.dir(own); found && ok && filepath.IsAbs(m.point) && filepath.IsAbs(m.root) {
				rel, err := filepath.Rel(filepath.Clean(m.point), dir)
				if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
					t.Fatalf("%+v: %q is at %q, outside the mount", m, own, dir)
				}
			}
		}
	})
}

// FuzzOrder: what the daemon tells the init of a tree arrives as it was, and the init's failure comes back as the error it is.
func FuzzOrder(f *testing.F) {
	f.Add("/bin/sh", "-c", "A=b", "/", uint32(1), uint32(2), true, 2, "open: no such file or directory")
	f.Fuzz(func(t *testing.T, path, arg, env, dir string, uid, gid uint32, account bool, number int, why string) {
		var out order
		out.Control, out.Command = true, command{Path: path, Args: []string{path, arg}, Env: []string{env}, Dir: dir}
		if account {
			out.Command.Account = newAccount(uid, gid)
		}
		text, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		var in order
		if err := json.Unmarshal(text, &in); err != nil || bytes.ContainsRune(text, '\n') {
			t.Fatalf("%q: %v", text, err)
		}
		if valid(path, arg, env, dir) && !reflect.DeepEqual(in, out) {
			t.Fatalf("%+v became %+v", out, in)
		}
		back := readFailure(fmt.Sprintf("%d %s", number, why))
		if number > 0 && number < 100 && !errors.Is(back, syscall.Errno(number)) {
			t.Fatalf("errno %d became %v", number, back)
		}
		if back == nil || number == 0 && back.Error() != why {
			t.Fatalf("%q became %v", why, back)
		}
		if readFailure(why) == nil {
			t.Fatalf("%q is no failure", why)
		}
	})
}

func newAccount(uid, gid uint32) *account {
	return &account{UID: uid, GID: gid, Groups: []uint32{gid}}
}

// valid: JSON has no other texts. A command whose arguments are no UTF-8 cannot come out of a configuration file.
func valid(all ...string) bool {
	for _, s := range all {
		if strings.ToValidUTF8(s, "") != s {
			return false
		}
	}
	return true
}
