package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/gossip"
)

func newGossipKey(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gossip-key",
		Short: "Change the keys that gossip is encrypted with",
		Long: `A keyring is the file that gossip.keyring of a node's configuration names. Its first key encrypts, all of them decrypt, and it is
read again when it changes. To change the key of a running cluster, give each of these three files to all nodes before you make
the next one:

  1. add      the new key is the last one: all understand it
  2. promote  it is the first one: all speak it
  3. remove   the old one is gone

A node that has taken a file says "changed gossip keys are used from now on", with the names of the keys as they are shown here, within
seconds. A node that misses a step is not heard by the others until it has the file; no job is moved for that.

Keys are named by the first eight digits of their SHA-256. What is in the file besides keys stays there; the change is written whole or
not at all, with the owner and the rights of the file before.`,
		Example: example("duoctl tls gossip-key add --keyring gossip.key", "duoctl tls gossip-key list --keyring gossip.key",
			"duoctl tls gossip-key promote --keyring gossip.key 1b4f0e98", "duoctl tls gossip-key remove --keyring gossip.key 9f86d081"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	keyring := cmd.PersistentFlags().String("keyring", "", "the file, as tls init makes it")
	change := func(use, short string, args cobra.PositionalArgs, do func(*ringText, []string) error) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: args,
			Example: example("duoctl tls gossip-key " + strings.ReplaceAll(use, "KEY", "--keyring gossip.key 1b4f0e98")),
			RunE:    func(_ *cobra.Command, args []string) error { return a.changeRing(*keyring, args, do) },
		}
	}
	cmd.AddCommand(
		change("list", "Show the keys by their names", cobra.NoArgs, nil),
		change("add", "Make a key and put it at the end", cobra.NoArgs, func(r *ringText, _ []string) error { return r.add() }),
		change("promote KEY", "Make a key the first, which encrypts", cobra.ExactArgs(1), func(r *ringText, args []string) error { return r.promote(args[0]) }),
		change("remove KEY", "Remove a key that is not the first", cobra.ExactArgs(1), func(r *ringText, args []string) error { return r.remove(args[0]) }),
	)
	return cmd
}

// changeRing reads a keyring, changes it unless do is nil, and shows it.
func (a *app) changeRing(path string, args []string, do func(*ringText, []string) error) error {
	if path == "" {
		return usage("--keyring is missing", "name the file that gossip.keyring of the configuration names")
	}
	path, err := filepath.EvalSymlinks(path) // a rename would replace the link
	if err != nil {
		return fmt.Errorf("find keyring: %w", err)
	}
	r, err := readRing(path)
	if err != nil {
		return err
	}
	if do != nil {
		if err := do(r, args); err != nil {
			return err
		}
		if err := replace(path, r.text()); err != nil {
			return err
		}
	}
	var shown []any
	for i, k := range r.keys() {
		shown = append(shown, object{{"name", k.name}, {"bits", 8 * k.bytes}, {"encrypts", i == 0}})
	}
	return a.print(object{{"file", path}, {"keys", shown}}, func(w io.Writer) {
		t := grid.Grid{Head: []string{"KEY", "BITS", "USE"}}
		for i, k := range r.keys() {
			t.Add(k.name, fmt.Sprint(8*k.bytes), map[bool]string{true: "encrypts", false: "decrypts"}[i == 0])
		}
		t.Write(w)
	})
}

// ringText is the lines of a keyring file.
type ringText struct{ lines []string }

// ringKey is a key as it may be shown, and the line it stands in.
type ringKey struct {
	name        string
	bytes, line int
}

func readRing(path string) (*ringText, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	if _, err := gossip.ParseKeyring(string(text)); err != nil {
		return nil, failed(fmt.Sprintf("%s: %v", path, err), "name the file that gossip.keyring of the configuration names")
	}
	return &ringText{strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")}, nil
}

func (r *ringText) text() []byte { return []byte(strings.Join(r.lines, "\n") + "\n") }

func (r *ringText) keys() (all []ringKey) {
	for i, line := range r.lines {
		if keys, err := gossip.ParseKeyring(line); err == nil {
			all = append(all, ringKey{gossip.Fingerprint(keys[0]), len(keys[0]), i})
		}
	}
	return all
}

// find looks for one key; who gives two lines the same key has to mend that by hand.
func (r *ringText) find(name string) (key ringKey, first bool, err error) {
	keys, names := r.keys(), []string{}
	for i, k := range keys {
		if k.name == name {
			key, first = k, i == 0
		}
		names = append(names, k.name)
	}
	switch n := count(names, name); {
	case n == 0:
		return key, false, usage(fmt.Sprintf("no key is called %q; there are %s", name, strings.Join(names, ", ")), "see duoctl tls gossip-key list")
	case n > 1:
		return key, false, failed(fmt.Sprintf("key %s stands in %d lines", name, n), "remove all of them but one by hand")
	}
	return key, first, nil
}

func count(names []string, name string) (n int) {
	for _, other := range names {
		if other == name {
			n++
		}
	}
	return n
}

func (r *ringText) add() error {
	r.lines = append(r.lines, newGossipSecret())
	return nil
}

func (r *ringText) promote(name string) error {
	key, _, err := r.find(name)
	if err != nil {
		return err
	}
	line := r.lines[key.line]
	r.lines = slices.Delete(r.lines, key.line, key.line+1)
	r.lines = slices.Insert(r.lines, min(key.line, r.firstLine()), line)
	return nil
}

// firstLine is where the first key stands, or would.
func (r *ringText) firstLine() int {
	if keys := r.keys(); len(keys) > 0 {
		return keys[0].line
	}
	return len(r.lines)
}

func (r *ringText) remove(name string) error {
	key, first, err := r.find(name)
	if err != nil {
		return err
	}
	if first {
		return &failure{
			code: exitUnsafe, what: fmt.Sprintf("key %s encrypts", name),
			mend: "promote another one, and give that file to all nodes first",
		}
	}
	r.lines = slices.Delete(r.lines, key.line, key.line+1)
	return nil
}

// newGossipSecret is a key as a keyring has it.
func newGossipSecret() string {
	return strings.TrimSpace(string(gossipKey().text))
}

// replace writes a file whole or not at all, with the owner and the rights that it has. A secret is never readable by more than that.
func replace(path string, text []byte) error {
	before, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return failed(fmt.Sprintf("%s is there: somebody else changes the file, or was interrupted", next), "remove it if nobody does")
	}
	if err != nil {
		return fmt.Errorf("replace file: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, sameOwner(f, before), f.Chmod(before.Mode().Perm()), f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return fmt.Errorf("replace file: %w", errors.Join(err, os.Remove(next)))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
