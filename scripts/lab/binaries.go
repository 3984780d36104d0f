package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build makes the repository's programs and returns their folder. It is quick when nothing changed.
func build(ctx context.Context) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(root, "bin")
	return bin, goBuild(ctx, root, bin, "./cmd/duoflowd", "./cmd/duoctl")
}

// BuildCommit makes duoflowd and duoctl as they were at a commit of the repository, and returns their folder. It wants git.
func (l *Lab) BuildCommit(ctx context.Context, commit string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	tree := filepath.Join(l.Dir, "commit-"+commit)
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", fmt.Errorf("make folder of commit %s: %w", commit, err)
	}
	unpack := exec.CommandContext(ctx, "bash", "-c", `set -o pipefail; git -C "$1" archive "$2" | tar -x -C "$3"`, "unpack", root, commit, tree)
	if out, err := unpack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack commit %s: %w: %s", commit, err, out)
	}
	bin := filepath.Join(tree, "bin")
	return bin, goBuild(ctx, tree, bin, "./cmd/duoflowd", "./cmd/duoctl")
}

// Build makes a program of the repository, such as ./scripts/probe/writer, in the lab's folder, and returns its path there.
func (l *Lab) Build(ctx context.Context, program string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(l.Dir, "tools")
	return filepath.Join(tools, filepath.Base(program)), goBuild(ctx, root, tools, program)
}

// goBuild makes programs of the repository at root in the folder to, which it makes too.
func goBuild(ctx context.Context, root, to string, programs ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", to + "/"}, programs...)...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", strings.Join(programs, " "), err, out)
	}
	return nil
}

// Ctl runs duoctl as the operator "lab", an admin, from the hub. An exit code other than 0 is no
// error; output is the standard output, and with such a code the error output too.
func (c *Cluster) Ctl(ctx context.Context, args ...string) (output string, code int, err error) {
	return c.ctl(ctx, nil, args...)
}

// Offline runs a command of duoflowd that works on a node's files while its daemon does not run, such as restore.
func (n *Node) Offline(ctx context.Context, args ...string) (output string, code int, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(n.cluster.bin, "duoflowd"), append(args, "--config", n.ConfigPath())...)
	cmd.Env = cleanEnv()
	return outcome(ctx, cmd)
}

func (c *Cluster) ctl(ctx context.Context, env []string, args ...string) (output string, code int, err error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "duoctl"), args...)
	cmd.Env = append(cleanEnv(), "DUOCTL_CONFIG="+filepath.Join(c.tls, "duoctl.yaml"))
	cmd.Env = append(cmd.Env, env...)
	return outcome(ctx, cmd)
}

// outcome runs a program to its end.
func outcome(ctx context.Context, cmd *exec.Cmd) (output string, code int, err error) {
	text, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return string(text) + string(exit.Stderr), exit.ExitCode(), nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("run %s: %w", filepath.Base(cmd.Path), errors.Join(err, ctx.Err()))
	}
	return string(text), 0, nil
}

// mustCtl is ctl where every other exit code than 0 is an error.
func (c *Cluster) mustCtl(ctx context.Context, env []string, args ...string) error {
	output, code, err := c.ctl(ctx, env, args...)
	if err == nil && code != 0 {
		err = fmt.Errorf("run duoctl %v: exit code %d: %s", args[:2], code, output)
	}
	return err
}
