package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mount is a place where the cgroup v2 hierarchy can be seen: the only one on a unified system,
// beside the v1 controllers on a hybrid one.
type mount struct {
	root  string // the part of the hierarchy that is mounted; "/" is all of it
	point string
}

// parseMounts reads the cgroup2 mounts out of a mountinfo text; format in proc(5).
func parseMounts(mountinfo string) []mount {
	var mounts []mount
	for line := range strings.Lines(mountinfo) {
		// "38 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw": any
		// number of optional fields stands before the lone dash.
		left, right, ok := strings.Cut(strings.TrimSpace(line), " - ")
		fields := strings.Fields(left)
		if !ok || len(fields) < 6 || !strings.HasPrefix(right, "cgroup2 ") {
			continue
		}
		mounts = append(mounts, mount{root: unescape.Replace(fields[3]), point: unescape.Replace(fields[4])})
	}
	return mounts
}

// unescape undoes the only escapes the kernel writes in mountinfo.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// parseOwn reads our own place in the v2 hierarchy out of /proc/self/cgroup; false if it is not
// visible from here (a removed cgroup, or one outside our cgroup namespace).
func parseOwn(cgroup string) (string, bool) {
	for line := range strings.Lines(cgroup) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		hidden := strings.HasSuffix(path, " (deleted)") || strings.HasPrefix(path, "/..")
		return path, filepath.IsAbs(path) && !hidden
	}
	return "", false
}

// dir is where the cgroup of this path is found below the mount point, if it is.
func (m mount) dir(path string) (string, bool) {
	rel, err := filepath.Rel(m.root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return filepath.Join(m.point, rel), true
}

// hierarchy is what this process sees of cgroup v2.
type hierarchy struct {
	mounts []mount
	own    string // "" when unknown
}

func readHierarchy() (hierarchy, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hierarchy{}, fmt.Errorf("read mounts: %w", err)
	}
	h := hierarchy{mounts: parseMounts(string(mountinfo))}
	cgroup, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return hierarchy{}, fmt.Errorf("read own cgroup: %w", err)
	}
	if own, ok := parseOwn(string(cgroup)); ok {
		h.own = own
	}
	return h, nil
}

// bases are the places to make cgroups in, best first: below our own cgroup, where systemd finds
// them too, else the root of a mount.
func (h hierarchy) bases() []string {
	var dirs []string
	for _, m := range h.mounts {
		if dir, ok := m.dir(h.own); ok && h.own != "" {
			dirs = append(dirs, dir)
		}
	}
	for _, m := range h.mounts {
		dirs = append(dirs, m.point)
	}
	return dirs
}

// inside tells whether this process itself lives in or below the cgroup directory dir.
func (h hierarchy) inside(dir string) bool {
	for _, m := range h.mounts {
		own, ok := m.dir(h.own)
		if ok && h.own != "" && (own == dir || strings.HasPrefix(own, dir+"/")) {
			return true
		}
	}
	return false
}
