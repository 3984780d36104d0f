package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

// diagnosis is what one endpoint's doctor says.
type diagnosis struct {
	endpoint string
	answer   *duoflowv1.DoctorResponse // nil when err is set
	err      error
}

func newDoctor(a *app) *cobra.Command {
	request := &duoflowv1.DoctorRequest{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine the nodes, and perform a fence to see that it works",
		Long: `Doctor asks the node at every endpoint to examine itself. Each performs a fence against a scratch role in the
metastore: that is the only proof that it would work. No job is touched.

The exit code is 1 when a finding is not ok or an endpoint does not answer. It needs the role operator.`,
		Example: example("duoctl doctor", "duoctl doctor --endpoint 10.0.0.1:7402 --job scheduler -o json"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), request) },
	}
	cmd.Flags().StringVar(&request.Job, "job", "", "only this job (default: every job)")
	return cmd
}

func (a *app) doctor(ctx context.Context, request *duoflowv1.DoctorRequest) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	var all []diagnosis
	for i, l := range links {
		answer, err := try(ctx, len(links)-i, l,
			func(ctx context.Context, admin duoflowv1.AdminClient) (*duoflowv1.DoctorResponse, error) {
				return admin.Doctor(ctx, request)
			})
		d := diagnosis{endpoint: l.endpoint, answer: answer}
		if err != nil {
			d.err = remote(l.endpoint, err)
		}
		all = append(all, d)
	}
	if err := a.print(doctorObject(all), func(w io.Writer) { writeDoctor(w, all) }); err != nil {
		return err
	}
	return doctorVerdict(all)
}

func doctorObject(all []diagnosis) object {
	nodes := make([]any, 0, len(all))
	for _, d := range all {
		o := object{{"endpoint", d.endpoint}, {"error", nil}}
		if d.err != nil {
			o[1].value = d.err.Error()
			d.answer = &duoflowv1.DoctorResponse{} // same shape, empty
		}
		nodes = append(nodes, append(o, objectOf(d.answer)...))
	}
	return object{{"nodes", nodes}}
}

func writeDoctor(w io.Writer, all []diagnosis) {
	for i, d := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if d.err != nil {
			fmt.Fprintln(w, d.err)
			continue
		}
		fmt.Fprintf(w, "node %s: %s\n", d.answer.GetNode(), modeText(d.answer.GetMode()))
		writeFindings(w, d.answer.GetFindings())
	}
}

func writeFindings(w io.Writer, findings []*duoflowv1.Finding) {
	g := &grid.Grid{Head: []string{"JOB", "FINDING", "OK", "DETAIL", "TO MEND"}}
	for _, f := range findings {
		g.Add(grid.OrDash(f.GetJob()), f.GetName(), standing(f), grid.OrDash(f.GetDetail()), grid.OrDash(f.GetMend()))
	}
	g.Write(w)
}

func modeText(mode string) string {
	switch mode {
	case "":
		return "runs no job"
	case "fenced":
		return mode
	}
	return mode + " (UNSAFE)"
}

// doctorVerdict fails on the first endpoint's own refusal, else on the number of bad findings.
func doctorVerdict(all []diagnosis) error {
	bad := 0
	for _, d := range all {
		if d.err != nil {
			return d.err
		}
		for _, f := range d.answer.GetFindings() {
			if !f.GetOk() {
				bad++
			}
		}
	}
	if bad > 0 {
		return failed(fmt.Sprintf("findings that are not ok: %d", bad), "follow the advice beside each finding")
	}
	return nil
}

// standing is the word for a finding; one that is ok and still says what to do is advice.
func standing(f *duoflowv1.Finding) string {
	if f.GetOk() && f.GetMend() != "" {
		return "advice"
	}
	return grid.YesNo(f.GetOk())
}
