package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/airflowctl"
	"github.com/duoflow/duoflow/airflowctl/schedule"
	"github.com/duoflow/duoflow/cmd/statusline"
)

// errQuiet ends the program without a word: the command's own last line is to be the last one.
var errQuiet = errors.New("quiet")

// runScheduled is the name of the subcommand that is the main process of a scheduled job's life.
const runScheduled = "run-scheduled"

// scheduled runs a job's command at its slots. duoflowd starts it inside the life of a job, whose epoch and service file it
// finds in its environment; it is of no use to people.
func scheduled() *cobra.Command {
	var text string
	var noRetry []int
	c := &cobra.Command{
		Use:    runScheduled + " --schedule SCHEDULE -- COMMAND...",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			slots, err := schedule.Parse(text)
			if err != nil {
				return &exitError{exitUsage, fmt.Errorf("--schedule: %w", err)}
			}
			epoch, err := strconv.ParseUint(os.Getenv("DUOFLOW_EPOCH"), 10, 64)
			if err != nil {
				return &exitError{exitUsage, errors.New("DUOFLOW_EPOCH is not set: duoflowd starts this, not people")}
			}
			table := schedule.NewTable("", schedule.Life{
				Job: os.Getenv("DUOFLOW_JOB"), Node: os.Getenv("DUOFLOW_NODE"), Epoch: epoch,
			})
			defer table.Close()
			told := os.Getenv(airflowctl.ScheduleVariable)
			_ = os.Unsetenv(airflowctl.ScheduleVariable) // not the command's affair; fails for malformed names only
			runner, err := schedule.New(schedule.Config{
				Schedule: slots, Command: args, NoRetry: noRetry, Ledger: table, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
				Tell: func(line string) { statusline.Put(told, line) },
			})
			if err != nil {
				return &exitError{exitUsage, err}
			}
			return scheduledExit(runner.Run(cmd.Context()))
		},
	}
	c.Flags().StringVar(&text, "schedule", "", "when to run the command")
	c.Flags().IntSliceVar(&noRetry, "no-retry", nil, "exit code with which a run has failed for good; repeatable")
	return c
}

// scheduledExit gives the program the exit code of the command.
func scheduledExit(err error) error {
	var exit *schedule.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &exitError{exit.Code, errQuiet}
	}
	return &exitError{exitFailed, err}
}
