package airflowctl

import (
	"slices"
)

// fingerprint is what a standby process was made from: the state of each thing it has read, by its path. What it
// imports once it does not read again, so a change must lead to a new process.
type fingerprint map[string]string

// schemaKey is the one entry that is no path: the migration the metastore is at.
const schemaKey = "schema of the metastore"

// changesShown bounds how many changes are named.
const changesShown = 4

// changes says what is different now, by path; nil when nothing is.
func (f fingerprint) changes(now fingerprint) []string {
	var paths []string
	for path, stamp := range f {
		if now[path] != stamp {
			paths = append(paths, path)
		}
	}
	for path := range now {
		if _, known := f[path]; !known {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	var out []string
	for i, path := range paths {
		if i == changesShown {
			out = append(out, "and more")
			break
		}
		out = append(out, f.change(now, path)+path)
	}
	return out
}

func (f fingerprint) change(now fingerprint, path string) string {
	_, before := f[path]
	_, after := now[path]
	switch {
	case !before:
		return "new: "
	case !after:
		return "gone: "
	}
	return "changed: "
}

// learn returns f with those of the named entries that it lacks, as they are in now.
func (f fingerprint) learn(now fingerprint, paths ...string) fingerprint {
	out := make(fingerprint, len(f)+len(paths))
	for path, stamp := range f {
		out[path] = stamp
	}
	for _, path := range paths {
		stamp, seen := now[path]
		if _, known := out[path]; seen && !known {
			out[path] = stamp
		}
	}
	return out
}
