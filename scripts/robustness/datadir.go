package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/duoflow/duoflow/scripts/lab"
)

// dataTroubles are what can have become of a data directory while the daemon was down. The node heals, or it does not start and says
// what to do; then that is done.
var dataTroubles = []trouble{
	{name: "data-flipped", where: onAny, moves: must, elsewhere: mustNot, alone: true, longest: usualHold, begin: harmed(anyFile(flipByte))},
	{name: "data-torn", where: onAny, moves: must, elsewhere: mustNot, alone: true, longest: usualHold, begin: harmed(anyFile(tearPage))},
	{name: "data-cut", where: onAny, moves: must, elsewhere: mustNot, alone: true, longest: usualHold, begin: harmed(anyFile(cutFile))},
	{name: "data-wiped", where: onAny, moves: must, elsewhere: mustNot, alone: true, longest: usualHold, begin: harmed(wiped)},
	{name: "data-of-another-node", where: onAny, moves: must, elsewhere: mustNot, alone: true, longest: usualHold, begin: harmed(othersData)},
	{name: "data-of-another-cluster", where: onAny, moves: must, elsewhere: mustNot, alone: true, longest: usualHold, begin: harmed(strangersData)},
	{name: "data-old", where: onStandby, moves: may, alone: true, longest: usualHold, begin: oldData},
}

const (
	// adviceText is what a daemon says that does not start on what it found.
	adviceText = "away"
	// decidesWithin is how long a started daemon may take to be well or to end. It is a limit for being stuck.
	decidesWithin = time.Minute
)

// harmed kills a daemon, does something to its data directory, and has what comes of it seen to in the end.
func harmed(harm func(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) error) beginning {
	return func(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
		s.excuse(n)
		mend := func(ctx context.Context) error { return s.restore(ctx, n) }
		if err := n.Process().Signal(syscall.SIGKILL); err != nil {
			return mend, err
		}
		if err := awaitEnd(ctx, n); err != nil {
			return mend, err
		}
		return mend, harm(ctx, s, n, dice)
	}
}

// restore starts a daemon on a directory that is not what it was. When it refuses that, the directory is emptied, as it asks for.
func (s *stage) restore(ctx context.Context, n *lab.Node) error {
	said, err := size(n.LogPath())
	if err != nil {
		return err
	}
	if err := s.keepUp(n); err != nil {
		return err
	}
	refused, err := s.decided(ctx, n)
	if err != nil || !refused {
		return err
	}
	text, err := os.ReadFile(n.LogPath())
	if err != nil {
		return fmt.Errorf("read the daemon's log: %w", err)
	}
	last := string(text[min(said, int64(len(text))):])
	if !strings.Contains(last, adviceText) || strings.Contains(last, "panic:") || strings.Contains(last, "goroutine ") {
		s.ended = append(s.ended, fmt.Sprintf("%s, on a damaged directory, without saying what to do: %.400q", n.Name, last))
	}
	s.excuse(n)
	return errors.Join(empty(n.DataDir()), s.keepUp(n))
}

// decided waits until a daemon is part of the cluster again, or has ended: then it is refused.
func (s *stage) decided(ctx context.Context, n *lab.Node) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, decidesWithin)
	defer cancel()
	for !n.Process().Ended() {
		if status, err := s.Cluster.Status(ctx); err == nil {
			for _, one := range status.GetNodes() {
				if one.GetName() == n.Name && one.GetConnected() && one.LastBeatAgeMs != nil && one.GetLastBeatAgeMs() < 500 {
					return false, nil
				}
			}
		}
		if err := lab.Pause(ctx, 50*time.Millisecond); err != nil {
			return false, fmt.Errorf("node %s is neither well nor has it ended: %w", n.Name, err)
		}
	}
	return true, nil
}

// empty removes everything in a folder, and not the folder: a disk is mounted on it.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("empty folder: %w", err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("empty folder: %w", err)
		}
	}
	return nil
}

func wiped(_ context.Context, _ *stage, n *lab.Node, _ *rand.Rand) error { return empty(n.DataDir()) }

// anyFile does it to a file of the directory: the log's as often as all others together.
func anyFile(harm func(path string, dice *rand.Rand) error) func(context.Context, *stage, *lab.Node, *rand.Rand) error {
	return func(_ context.Context, _ *stage, n *lab.Node, dice *rand.Rand) error {
		var logs, others []string
		err := filepath.WalkDir(n.DataDir(), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			if strings.HasSuffix(filepath.Base(path), "raft.db") || strings.HasSuffix(filepath.Base(path), "raft.vote") {
				logs = append(logs, path)
			} else {
				others = append(others, path)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for a file: %w", err)
		}
		if len(logs) == 0 {
			return fmt.Errorf("look for a file: no log in %s", n.DataDir())
		}
		slices.Sort(logs)
		slices.Sort(others)
		from := logs
		if dice.IntN(4) == 0 && len(others) > 0 {
			from = others
		}
		return harm(from[dice.IntN(len(from))], dice)
	}
}

// othersData puts the log of another node in place of its own, as who copies a disk image does.
func othersData(_ context.Context, s *stage, n *lab.Node, dice *rand.Rand) error {
	others := othersThan(n.Name)
	from := s.Cluster.Nodes[others[dice.IntN(len(others))]].DataDir()
	return s.replaceLog(from, n.DataDir())
}

// replaceLog copies raft's folder of one data directory into another one.
func (s *stage) replaceLog(from, to string) error {
	if err := os.RemoveAll(filepath.Join(to, "raft")); err != nil {
		return fmt.Errorf("replace log: %w", err)
	}
	if err := os.Mkdir(filepath.Join(to, "raft"), 0o700); err != nil {
		return fmt.Errorf("replace log: %w", err)
	}
	for _, name := range []string{"raft.db", "raft.vote"} {
		if err := copyFile(filepath.Join(from, "raft", name), filepath.Join(to, "raft", name)); err != nil {
			return fmt.Errorf("replace log: %w", err)
		}
	}
	return nil
}

// strangersData puts the log of a cluster of another name in place of its own.
func strangersData(ctx context.Context, s *stage, n *lab.Node, _ *rand.Rand) error {
	if err := empty(n.DataDir()); err != nil {
		return err
	}
	config, err := os.ReadFile(n.ConfigPath())
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	stranger := []byte(strings.Replace(string(config), "cluster: lab", "cluster: stranger", 1))
	if err := os.WriteFile(n.ConfigPath(), stranger, 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	back := func() error { return os.WriteFile(n.ConfigPath(), config, 0o600) }
	if err := s.keepUp(n); err != nil {
		return errors.Join(err, back())
	}
	s.excuse(n)
	made := awaitFile(ctx, filepath.Join(n.DataDir(), "raft", "raft.vote"))
	if err := errors.Join(made, n.Process().Signal(syscall.SIGKILL), back()); err != nil {
		return err
	}
	return awaitEnd(ctx, n)
}

func awaitFile(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, decidesWithin)
	defer cancel()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if err := lab.Pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("wait for %s: %w", path, err)
		}
	}
}

// oldData keeps a copy of a log, lets the cluster go on, and puts it back, as who restores a backup does.
func oldData(ctx context.Context, s *stage, n *lab.Node, dice *rand.Rand) (func(context.Context) error, error) {
	kept := filepath.Join(s.Lab.Dir, "kept-"+n.Name)
	if err := errors.Join(os.RemoveAll(kept), os.MkdirAll(kept, 0o700)); err != nil {
		return nil, fmt.Errorf("keep log: %w", err)
	}
	mend, err := harmed(func(context.Context, *stage, *lab.Node, *rand.Rand) error { return s.replaceLog(n.DataDir(), kept) })(ctx, s, n, dice)
	if err != nil {
		return mend, err
	}
	if err := mend(ctx); err != nil {
		return nil, err
	}
	for range 1 + dice.IntN(3) { // each is at least three entries
		active, err := s.await(ctx, true)
		if err != nil {
			return nil, err
		}
		if err := s.askFor(ctx, standbyOf(active.Node)); err != nil {
			return nil, err
		}
	}
	if _, err := s.await(ctx, true); err != nil {
		return nil, err
	}
	return harmed(func(context.Context, *stage, *lab.Node, *rand.Rand) error { return s.replaceLog(kept, n.DataDir()) })(ctx, s, n, dice)
}
