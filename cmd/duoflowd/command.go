package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/manual"
	"github.com/duoflow/duoflow/cmd/release"
	"github.com/duoflow/duoflow/node"
)

// version is set by the linker for releases (-X main.version=...).
var version string

func programVersion() string { return release.Text(version) }

// Exit codes, as DESIGN section 9 lists them.
const (
	exitFailed = 1
	exitUsage  = 2
	exitUnsafe = 3
	// exitRemoved has a code that duoctl uses for nothing, so that systemd can be told of it.
	exitRemoved = 7
)

const long = `duoflowd takes part in a cluster, and runs the jobs of which this node is the active one.

SIGTERM and SIGINT end it in order: its jobs are asked to end, which the others are told, and waited for, 40 s at most. A second signal ends
it at once, and its jobs with it. SIGQUIT ends it with the stacks of all goroutines on standard error, where the log goes too.

systemd is told when it is ready, that it is alive, and when it ends (Type=notify, WatchdogSec=).

Exit codes:
  0  ended in order
  1  failed: something that it cannot do without broke, such as the disk of its log
  2  usage: the command line or the configuration is wrong
  3  unsafe: a job's database or settings lack what the fence or the job needs
  7  removed: this node was removed from the cluster, and to start it again is of no use`

type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exitCode(err error) int {
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	return exitUsage // everything else is cobra refusing the command line
}

func command() *cobra.Command {
	var path, level, format string
	var check bool
	c := &cobra.Command{
		Use:           "duoflowd --config FILE",
		Short:         "One node of a duoflow cluster",
		Long:          long,
		Example:       "  duoflowd --config /etc/duoflow/node.yaml\n  duoflowd --config node.yaml --check",
		Version:       programVersion(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := newLogger(level, format)
			if err != nil {
				return &exitError{exitUsage, err}
			}
			if os.Geteuid() == 0 { // who is not root has to know the jobs first, see veilBeside
				if err := veil(); err != nil {
					return &exitError{exitFailed, err}
				}
			}
			cfg, err := node.LoadConfig(path)
			if check {
				return report(cmd, cfg, err)
			}
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return run(cmd.Context(), cfg, logger)
		},
	}
	c.Flags().StringVar(&path, "config", defaultConfig, "configuration file")
	c.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	c.Flags().StringVar(&format, "log-format", "text", "text or json")
	c.Flags().BoolVar(&check, "check", false, "check the configuration, say what is wrong, and end")
	c.Flags().StringP("output", "o", "text", "of --check: text or json")
	c.AddCommand(scheduled(), newVersion(), newRestore(), newRecover(), manual.Command(manual.Program{
		Name: "duoflowd", Section: 8, Foot: "duoflow " + programVersion(), Also: []string{"duoctl(1)", "duoflow-node.yaml(5)", "systemd.service(5)"},
	}))
	return c
}

// newVersion is --version for those who know duoctl's.
func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of duoflowd, and the commit it was built from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "duoflowd %s, %s, %s/%s\n", programVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// report says what was found, nothing having been started. In text the problems go the way of every error.
func report(cmd *cobra.Command, cfg node.Config, found error) error {
	if output, _ := cmd.Flags().GetString("output"); output == "json" {
		answer := map[string]any{"ok": found == nil, "cluster": cfg.Cluster, "node": cfg.Node}
		var problems *node.Problems
		switch {
		case errors.As(found, &problems):
			answer["problems"] = problems.List
		case found != nil:
			answer["problems"] = []string{found.Error()}
		}
		if err := json.NewEncoder(cmd.OutOrStdout()).Encode(answer); err != nil || found == nil {
			return err
		}
		return &exitError{exitUsage, errQuiet}
	}
	if found != nil {
		return &exitError{exitUsage, found}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "configuration of node %s of cluster %s is sound\n", cfg.Node, cfg.Cluster)
	return err
}

func newLogger(level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format: %q; want text or json", format)
}
