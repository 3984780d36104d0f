package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/airflowctl/fence"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

func newMetastoreDoctor(a *app) *cobra.Command {
	config := fence.Config{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Perform a fence in a job's database as a daemon would, without one",
		Long: `Doctor connects as a fencer and performs a fence against a scratch role, to prove the rights that metastore init
made before any daemon runs. No job is touched. The exit code is 1 when a finding is not ok. With --schedule it also
looks whether the job could note its scheduled runs in table duoflow.run.

The connection is --dsn, or better DUOCTL_FENCER_DSN: a command line can be seen by every user of the host.`,
		Example: example("DUOCTL_FENCER_DSN=postgres://fencer_a@db1/airflow duoctl metastore doctor --group airflow",
			"duoctl metastore doctor --job etl --group lightning --schedule"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.metastoreDoctor(cmd.Context(), config) },
	}
	cmd.Flags().StringVar(&config.DSN, "dsn", "", "a fencer's connection (default DUOCTL_FENCER_DSN)")
	cmd.Flags().StringVar(&config.Job, "job", "scheduler", "the job")
	cmd.Flags().StringVar(&config.Group, "group", "airflow", "group role that holds the job's rights")
	cmd.Flags().BoolVar(&config.Runs, "schedule", false, "the job has a schedule in the nodes' configuration")
	return cmd
}

func (a *app) metastoreDoctor(ctx context.Context, config fence.Config) error {
	config.DSN = first(config.DSN, a.env("DUOCTL_FENCER_DSN"))
	if config.DSN == "" {
		return usage("the connection of a fencer is missing", "set DUOCTL_FENCER_DSN or --dsn")
	}
	where, err := describeDSN(config.DSN)
	if err != nil {
		return err
	}
	fencer, err := fence.New(config)
	if err != nil {
		return usage(err.Error(), "see duoctl metastore doctor --help")
	}
	ctx, cancel := a.limited(ctx, changeTimeout)
	defer cancel()
	report, err := fencer.Doctor(ctx)
	if err != nil {
		return fmt.Errorf("examine %s: %w", where, err)
	}
	answer := reportResponse(config.Job, report)
	err = a.print(objectOf(answer), func(w io.Writer) {
		fmt.Fprintf(w, "job %s in %s: %s\n", config.Job, where, modeText(answer.GetMode()))
		writeFindings(w, answer.GetFindings())
	})
	if err != nil {
		return err
	}
	return doctorVerdict([]diagnosis{{answer: answer}})
}

// reportResponse is the report in the form that a node's doctor answers in.
func reportResponse(job string, report fence.Report) *duoflowv1.DoctorResponse {
	answer := &duoflowv1.DoctorResponse{Mode: report.Mode}
	for _, f := range report.Findings {
		answer.Findings = append(answer.Findings, &duoflowv1.Finding{
			Job: job, Name: f.Name, Ok: f.OK, Detail: f.Detail, Mend: f.Mend,
		})
	}
	return answer
}
