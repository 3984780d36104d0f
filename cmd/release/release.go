// Package release says which version of duoflow a program is: the one place where its number is written.
package release

import (
	"runtime/debug"
	"strings"
)

// Number is the version that this tree is, or is becoming: a release's, once the commit has the tag v + Number. scripts/package puts it
// into the names of the packages.
const Number = "1.0.0-rc.1"

// commitDigits are how many digits of a commit are shown.
const commitDigits = 12

// Text is Number with the commit, as 1.0.0+614db74dcb2f; ".dirty" follows when files were changed after it. linked is what the linker
// put into the program for a release, and wins; without it and without version control in the build, as in tests, it is Number alone.
func Text(linked string) string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return Number
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	return Of(settings["vcs.revision"], settings["vcs.modified"] == "true")
}

// Of is the text for a commit; "" is an unknown one.
func Of(commit string, dirty bool) string {
	if len(commit) > commitDigits {
		commit = commit[:commitDigits]
	}
	text := strings.TrimSuffix(Number+"+"+commit, "+")
	if dirty {
		text += ".dirty"
	}
	return text
}
