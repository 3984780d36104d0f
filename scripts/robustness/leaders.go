package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// leadersName is the file of a run with a line for each leader of the log that a daemon has told of: term and node.
const leadersName = "leaders"

// leadership is a daemon's line about who leads.
var leadership = regexp.MustCompile(`msg="raft leadership" .*\bterm=(\d+) peer=(\w+)`)

// prepareLeaders has the daemons' logs read at the end: a node that votes twice in a term, as one on a directory that has
// forgotten its vote might, brings forth two leaders of it.
func prepareLeaders(_ context.Context, s *stage) (stop func() error, err error) {
	return func() error {
		told := map[string]bool{}
		for _, name := range nodeNames {
			text, err := os.ReadFile(s.Cluster.Nodes[name].LogPath())
			if err != nil {
				return fmt.Errorf("read the daemon's log: %w", err)
			}
			for _, found := range leadership.FindAllStringSubmatch(string(text), -1) {
				if found[2] != "none" {
					told[found[1]+" "+found[2]] = true
				}
			}
		}
		for line := range told {
			if err := s.out.write(leadersName, line+"\n"); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// checkLeaders wants one leader in each term.
func checkLeaders(path string) (wrong []string, err error) {
	leaders := map[string]string{}
	err = readLines(filepath.Join(path, leadersName), false, func(line string) error {
		term, node, found := strings.Cut(line, " ")
		if !found {
			return fmt.Errorf("not a leader: %q", line)
		}
		if other := leaders[term]; other != "" && other != node {
			wrong = append(wrong, fmt.Sprintf("two leaders of term %s: %s and %s", term, other, node))
		}
		leaders[term] = node
		return nil
	})
	slices.Sort(wrong)
	return wrong, err
}
