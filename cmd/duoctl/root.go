package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/manual"
	"github.com/duoflow/duoflow/cmd/release"
)

const (
	readTimeout   = 10 * time.Second // of commands that only ask
	changeTimeout = 90 * time.Second // of commands that wait for a job to stop (30 s grace) and start
)

// globalFlags are valid for every command; zero values fall back to the environment and the context.
type globalFlags struct {
	config, context string
	endpoints       []string
	ca, cert, key   string
	timeout         time.Duration // 0 = readTimeout or changeTimeout
	output          string        // table | json | yaml
}

const rootLong = `duoctl looks at and steers a duoflow cluster. Any node may be asked; with several endpoints
the first that answers is used.

Where to connect comes from the flags, else from the environment (DUOCTL_ENDPOINT with commas between,
DUOCTL_CA, DUOCTL_CERT, DUOCTL_KEY, DUOCTL_CONTEXT, DUOCTL_TIMEOUT, DUOCTL_OUTPUT), else from a context in
~/.config/duoctl/config.yaml (DUOCTL_CONFIG names another file):

  current: prod
  contexts:
    prod:
      endpoints: [10.0.0.1:7402, 10.0.0.2:7402, 10.0.0.3:7402]
      ca: ca.pem            # relative to the file's own folder
      cert: alice.pem
      key: alice.key

Without certificates duoctl speaks plainly, and only to a loopback address.`

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "duoctl",
		Short: "Look at and steer a duoflow cluster",
		Long:  rootLong + "\n\n" + exitHelp,
		Example: `  duoctl --endpoint 10.0.0.1:7402 --ca ca.pem --cert alice.pem --key alice.key status
  duoctl --context prod switchover --to b`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if err := a.settleGlobals(); err != nil {
				return err
			}
			a.began = true
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	a.addGlobals(root)
	root.AddCommand(
		newStatus(a), newWatch(a), newSwitchover(a), newFailover(a), newRestart(a), newCancel(a), newPause(a), newResume(a),
		newHistory(a), newExplain(a), newTopology(a), newLogs(a), newConfig(a), newDoctor(a), newVersion(a),
		newBackup(a), newTLS(a), newMetastore(a), newAudit(a), newMember(a), newETL(a),
		manual.Command(manual.Program{
			Name: "duoctl", Section: 1, Foot: "duoflow " + release.Text(version), Also: []string{"duoflowd(8)", "duoflow-node.yaml(5)"},
		}),
	)
	return root
}

func (a *app) addGlobals(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVar(&a.flags.config, "config", "", "contexts file (default ~/.config/duoctl/config.yaml)")
	flags.StringVar(&a.flags.context, "context", "", "context of the contexts file (default: its current)")
	flags.StringSliceVar(&a.flags.endpoints, "endpoint", nil, "admin address of a node, host:port; repeatable")
	flags.StringVar(&a.flags.ca, "ca", "", "certificate of the cluster's authority")
	flags.StringVar(&a.flags.cert, "cert", "", "your certificate")
	flags.StringVar(&a.flags.key, "key", "", "the key of your certificate")
	flags.DurationVar(&a.flags.timeout, "timeout", 0,
		fmt.Sprintf("give up after this time (default %v; %v for changes)", readTimeout, changeTimeout))
	flags.StringVarP(&a.flags.output, "output", "o", "", "table, json or yaml (default table)")
}

// settleGlobals takes from the environment what the command line leaves open.
func (a *app) settleGlobals() error {
	if a.flags.output == "" {
		a.flags.output = a.env("DUOCTL_OUTPUT")
	}
	if a.flags.output == "" {
		a.flags.output = "table"
	}
	if !slices.Contains([]string{"table", "json", "yaml"}, a.flags.output) {
		return usage(fmt.Sprintf("output %q is unknown", a.flags.output), "use -o table, json or yaml")
	}
	if text := a.env("DUOCTL_TIMEOUT"); text != "" && a.flags.timeout == 0 {
		timeout, err := time.ParseDuration(text)
		if err != nil {
			return usage(fmt.Sprintf("DUOCTL_TIMEOUT %q is no duration", text), "write it like 10s")
		}
		a.flags.timeout = timeout
	}
	if a.flags.timeout < 0 {
		return usage(fmt.Sprintf("timeout %v is negative", a.flags.timeout), "give a positive --timeout")
	}
	return nil
}

// limited bounds a context by --timeout, or by the usual one.
func (a *app) limited(ctx context.Context, usual time.Duration) (context.Context, context.CancelFunc) {
	if a.flags.timeout > 0 {
		usual = a.flags.timeout
	}
	return context.WithTimeout(ctx, usual)
}

func (a *app) tabular() bool { return a.flags.output == "table" }

// example indents every line, as cobra wants its examples.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
