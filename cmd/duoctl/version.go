package main

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/cmd/release"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// versionRow is the version of one program.
type versionRow struct {
	where  string // "duoctl", or the endpoint
	answer *duoflowv1.VersionResponse
	err    error
}

func newVersion(a *app) *cobra.Command {
	client := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of duoctl and of the nodes",
		Long: `Version shows the version of duoctl itself and of the node at every endpoint. The exit code is 1 when one of
them does not answer.`,
		Example: example("duoctl version", "duoctl version --client -o json"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.version(cmd.Context(), client) },
	}
	cmd.Flags().BoolVar(&client, "client", false, "only that of duoctl; asks nobody")
	return cmd
}

func (a *app) version(ctx context.Context, client bool) error {
	rows := []versionRow{{where: "duoctl", answer: &duoflowv1.VersionResponse{
		Version: release.Text(version), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}}}
	if !client {
		nodes, err := a.nodeVersions(ctx)
		if err != nil {
			return err
		}
		rows = append(rows, nodes...)
	}
	if err := a.print(versionObject(rows), func(w io.Writer) { writeVersions(w, rows) }); err != nil {
		return err
	}
	for _, row := range rows {
		if row.err != nil {
			return row.err
		}
	}
	return nil
}

func (a *app) nodeVersions(ctx context.Context) ([]versionRow, error) {
	links, err := a.links()
	if err != nil {
		return nil, err
	}
	defer closeAll(links)
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	var rows []versionRow
	for i, l := range links {
		row := versionRow{where: l.endpoint}
		row.answer, err = try(ctx, len(links)-i, l,
			func(ctx context.Context, admin duoflowv1.AdminClient) (*duoflowv1.VersionResponse, error) {
				return admin.Version(ctx, &duoflowv1.VersionRequest{})
			})
		if err != nil {
			row.err = remote(l.endpoint, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func versionObject(rows []versionRow) object {
	programs := make([]any, 0, len(rows))
	for _, row := range rows {
		o := object{{"where", row.where}, {"error", nil}}
		if row.err != nil {
			o[1].value = row.err.Error()
			row.answer = &duoflowv1.VersionResponse{} // same shape, empty
		}
		programs = append(programs, append(o, objectOf(row.answer)...))
	}
	return object{{"programs", programs}}
}

func writeVersions(w io.Writer, rows []versionRow) {
	g := &grid.Grid{Head: []string{"PROGRAM", "VERSION", "GO", "PLATFORM"}}
	for _, row := range rows {
		if row.err != nil {
			g.Add(row.where, "no answer", grid.Dash, grid.Dash)
			continue
		}
		g.Add(row.where, row.answer.GetVersion(), row.answer.GetGo(), row.answer.GetPlatform())
	}
	g.Write(w)
	for _, row := range rows {
		if row.err != nil {
			fmt.Fprintln(w, row.err)
		}
	}
}
