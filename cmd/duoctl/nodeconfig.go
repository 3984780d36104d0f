package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func newConfig(a *app) *cobra.Command {
	node := ""
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show, examine and edit the configuration of a node",
		Long: `Config is about the file that a node was started with. Secrets in it are not shown. It needs the role admin: who may have a file
examined may also learn what is on the node's disk.`,
		Example: example("duoctl config show --node b", "duoctl config check node-b.yaml --node b"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&node, "node", "", "the node (default: the one at the first endpoint)")
	cmd.AddCommand(newConfigShow(a, &node), newConfigCheck(a, &node), newConfigEdit(a, &node))
	return cmd
}

func newConfigShow(a *app, node *string) *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Show the configuration a node runs with, without secrets",
		Example: example("duoctl config show --node b", "duoctl config show -o json | jq -r .text"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			answer, err := a.nodeConfig(cmd.Context(), *node, nil)
			if err != nil {
				return err
			}
			return a.print(objectOf(answer), func(w io.Writer) { fmt.Fprint(w, answer.GetText()) })
		},
	}
}

func newConfigCheck(a *app, node *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Have a node examine a file as if it were its configuration, and show what differs",
		Long: `Check sends a file to a node, which examines it with the files it names and says everything that is wrong at once. Nothing is kept.
What differs from the configuration that the node runs with is shown. The exit code is 1 when something is wrong.`,
		Example: example("duoctl config check node-b.yaml --node b"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			text, err := os.ReadFile(paths[0])
			if err != nil {
				return fmt.Errorf("read candidate: %w", err)
			}
			answer, err := a.nodeConfig(cmd.Context(), *node, text)
			if err != nil {
				return err
			}
			if err := a.print(objectOf(answer), func(w io.Writer) { writeDifference(w, answer) }); err != nil {
				return err
			}
			return sound(answer)
		},
	}
}

func newConfigEdit(a *app, node *string) *cobra.Command {
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "edit FILE",
		Short: "Edit a node's configuration file on this host: examined, with what differs, before it is put in place",
		Long: `Edit opens a copy of the file in $EDITOR, has the node examine what you made of it, shows what differs, asks, and only then puts it in
the place of FILE, whole, with its mode and owner. A mistake changes nothing: the copy is kept, and its path is said.
The daemon reads the file when it starts: duoctl switchover, then restart it.`,
		Example: example("EDITOR=vi duoctl config edit /etc/duoflow/node.yaml"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			return a.editConfig(cmd.Context(), *node, paths[0], yes, dryRun)
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "edit, have it examined, show what differs, and put nothing in place")
	return cmd
}

func (a *app) nodeConfig(ctx context.Context, node string, candidate []byte) (*duoflowv1.ConfigResponse, error) {
	links, err := a.links()
	if err != nil {
		return nil, err
	}
	defer closeAll(links)
	there := links[0]
	if node != "" {
		status, _, err := a.lookBefore(ctx, links)
		if err != nil {
			return nil, err
		}
		address, err := adminAddress(status, node)
		if err != nil {
			return nil, err
		}
		if there, err = a.linkTo(address); err != nil {
			return nil, err
		}
		defer closeAll([]*link{there})
	}
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	request := &duoflowv1.ConfigRequest{}
	if candidate != nil {
		text := string(candidate)
		request.Candidate = &text
	}
	answer, err := there.admin.Config(ctx, request)
	if err != nil {
		return nil, remote(there.endpoint, err)
	}
	return answer, nil
}

func sound(answer *duoflowv1.ConfigResponse) error {
	if n := len(answer.GetProblems()); n > 0 {
		return failed(fmt.Sprintf("node %s would not start with it: %d problems", answer.GetNode(), n), "mend them; duoflowd --check says the same on the host")
	}
	return nil
}

func writeDifference(w io.Writer, answer *duoflowv1.ConfigResponse) {
	for _, problem := range answer.GetProblems() {
		fmt.Fprintln(w, problem)
	}
	text, err := difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(answer.GetText()), B: difflib.SplitLines(answer.GetCandidate()),
		FromFile: answer.GetNode() + " runs with", ToFile: "candidate", Context: 2,
	})
	switch {
	case err != nil:
		fmt.Fprintf(w, "what differs cannot be shown: %v\n", err)
	case text == "":
		fmt.Fprintln(w, "nothing differs, secrets apart")
	default:
		fmt.Fprint(w, text)
	}
}

func (a *app) editConfig(ctx context.Context, node, path string, yes, dryRun bool) error {
	path, err := filepath.EvalSymlinks(path) // a rename would replace the link
	if err != nil {
		return fmt.Errorf("find configuration: %w", err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	copied, err := copyToEdit(path, before)
	if err != nil {
		return err
	}
	if err := a.runEditor(ctx, copied); err != nil {
		return err
	}
	after, err := os.ReadFile(copied)
	if err != nil {
		return kept(fmt.Errorf("read what was edited: %w", err), copied)
	}
	if string(after) == string(before) {
		return errors.Join(os.Remove(copied), failed("nothing was edited", ""))
	}
	answer, err := a.nodeConfig(ctx, node, after)
	if err != nil {
		return kept(err, copied)
	}
	writeDifference(grid.Printable{W: a.err}, answer)
	if err := sound(answer); err != nil {
		return kept(err, copied)
	}
	if dryRun {
		return a.print(object{{"path", path}, {"node", answer.GetNode()}, {"kept", copied}, {"done", false}}, func(w io.Writer) {
			fmt.Fprintf(w, "nothing is put in place; what you made is in %s\n", copied)
		})
	}
	if !yes {
		if err := a.confirm(ctx, "put it in the place of "+path+"?"); err != nil {
			return kept(err, copied)
		}
	}
	if err := os.Rename(copied, path); err != nil {
		return kept(fmt.Errorf("put configuration in place: %w", err), copied)
	}
	return a.print(object{{"path", path}, {"node", answer.GetNode()}, {"kept", nil}, {"done", true}}, func(w io.Writer) {
		fmt.Fprintf(w, "%s is in place; duoflowd reads it when it starts\n", path)
	})
}

func kept(err error, copied string) error {
	return fmt.Errorf("%w (what you made is in %s)", err, copied)
}

// copyToEdit makes a copy beside the file, with its mode and owner, so that it can take its place.
func copyToEdit(path string, text []byte) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return "", fmt.Errorf("copy configuration: %w", err)
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Chmod(info.Mode().Perm()), sameOwner(file, info), file.Sync(), file.Close()); err != nil {
		return "", fmt.Errorf("copy configuration: %w", errors.Join(err, os.Remove(file.Name())))
	}
	return file.Name(), nil
}

func (a *app) runEditor(ctx context.Context, path string) error {
	editor := strings.Fields(first(a.env("VISUAL"), a.env("EDITOR"), "vi"))
	cmd := exec.CommandContext(ctx, editor[0], append(editor[1:], path)...)
	cmd.Stdout, cmd.Stderr = a.err, a.err
	if terminal, ok := a.in.(*os.File); ok { // anything else would be read to its end, and the answer is still to come from there
		cmd.Stdin = terminal
	}
	if err := cmd.Run(); err != nil {
		return kept(fmt.Errorf("run editor %s: %w", editor[0], err), path)
	}
	return nil
}
