package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/cmd/release"
)

// stamp is what a release is made from. All in it that is not in a file comes from here, so that nothing depends on where and when.
type stamp struct {
	commit string
	at     time.Time // when it was committed
	dirty  bool      // files were changed after it
	tagged bool      // it has the tag of its version
}

func readStamp(ctx context.Context, root string) (stamp, error) {
	answers := map[string]string{}
	for what, args := range map[string][]string{
		"commit": {"rev-parse", "HEAD"}, "at": {"log", "-1", "--format=%ct"},
		"changed": {"status", "--porcelain"}, "tags": {"tag", "--points-at", "HEAD"},
	} {
		text, err := command(ctx, root, nil, "git", args...)
		if err != nil {
			return stamp{}, err
		}
		answers[what] = strings.TrimSpace(text)
	}
	seconds, err := strconv.ParseInt(answers["at"], 10, 64)
	if err != nil {
		return stamp{}, fmt.Errorf("read the time of %s: %w", answers["commit"], err)
	}
	return stamp{
		commit: answers["commit"], at: time.Unix(seconds, 0).UTC(), dirty: answers["changed"] != "",
		tagged: slices.Contains(strings.Fields(answers["tags"]), "v"+release.Number),
	}, nil
}

// linked is what the programs say of themselves.
func (s stamp) linked() string { return release.Of(s.commit, s.dirty) }

// debian is the version of the packages: the release's, or one that comes before it and after those of older commits.
func (s stamp) debian() string {
	if s.tagged && !s.dirty {
		return upstream()
	}
	text := upstream() + "~git" + s.at.Format("20060102150405") + "." + s.commit[:12]
	if s.dirty {
		text += "+dirty"
	}
	return text
}

// upstream is the release's number as Debian orders versions: a candidate, 1.0.0~rc.1, before the release.
func upstream() string { return strings.ReplaceAll(release.Number, "-", "~") }

// epoch is the time of all files, in the words of https://reproducible-builds.org.
func (s stamp) epoch() string { return "SOURCE_DATE_EPOCH=" + strconv.FormatInt(s.at.Unix(), 10) }
