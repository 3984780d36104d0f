package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func newLogs(a *app) *cobra.Command {
	request, follow, node := &duoflowv1.LogsRequest{}, false, ""
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show what a job has written",
		Long: `Logs shows the newest lines of a job's output on the node that holds it, or on another one. With --follow it goes on until
Ctrl-C or the end of --timeout; when the job moves it stays with the node. It needs the role operator: a job may write anything.`,
		Example: example("duoctl logs", "duoctl logs --job etl --node b --lines 20", "duoctl logs --follow"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.logs(cmd.Context(), request, node, follow)
		},
	}
	cmd.Flags().StringVar(&request.Job, "job", "scheduler", "the job")
	cmd.Flags().StringVar(&node, "node", "", "the node (default: the job's holder)")
	cmd.Flags().Uint32VarP(&request.Lines, "lines", "n", 100, "at most so many lines, up to 1000")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on as lines are written")
	return cmd
}

func (a *app) logs(ctx context.Context, request *duoflowv1.LogsRequest, node string, follow bool) error {
	if follow && !a.tabular() {
		return usage("--follow writes lines as they come", "leave out -o, or --follow")
	}
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	status, _, err := a.lookBefore(ctx, links)
	if err != nil {
		return err
	}
	address, err := whereItWrites(status, request.GetJob(), node)
	if err != nil {
		return err
	}
	there, err := a.linkTo(address)
	if err != nil {
		return err
	}
	defer closeAll([]*link{there})
	answer, err := a.newLines(ctx, there, request)
	if err != nil {
		return err
	}
	if err := a.print(objectOf(answer), func(w io.Writer) { writeLines(w, answer) }); err != nil || !follow {
		return err
	}
	return a.followLines(ctx, there, request, answer)
}

func (a *app) newLines(ctx context.Context, there *link, request *duoflowv1.LogsRequest) (*duoflowv1.LogsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answer, err := there.admin.Logs(ctx, request)
	if err != nil {
		return nil, remote(there.endpoint, err)
	}
	return answer, nil
}

// followLines shows what is written until the context ends, which is how it is meant to end.
func (a *app) followLines(ctx context.Context, there *link, request *duoflowv1.LogsRequest, last *duoflowv1.LogsResponse) error {
	if a.flags.timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, a.flags.timeout)
		defer cancel()
		ctx = limited
	}
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		request.After = last.GetMark()
		next, err := a.newLines(ctx, there, request)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		writeLines(grid.Printable{W: a.out}, next)
		last = next
	}
}

// whereItWrites is the admin address of the node that is meant.
func whereItWrites(status *duoflowv1.StatusResponse, name, node string) (string, error) {
	job, err := findJob(status, name)
	if err != nil {
		return "", err
	}
	if node == "" {
		node = job.GetHolder()
	}
	if node == "" {
		return "", failed(fmt.Sprintf("nobody holds job %s", name), "name a node with --node")
	}
	return adminAddress(status, node)
}

func adminAddress(status *duoflowv1.StatusResponse, node string) (string, error) {
	for _, n := range status.GetNodes() {
		if n.GetName() == node && n.GetAdminAddress() != "" {
			return n.GetAdminAddress(), nil
		}
	}
	return "", failed(fmt.Sprintf("the address of node %q is not known", node), "duoctl status lists the nodes; give its own with --endpoint")
}

func writeLines(w io.Writer, answer *duoflowv1.LogsResponse) {
	for _, line := range answer.GetLines() {
		fmt.Fprintln(w, line)
	}
}
