package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

const etlLong = `Etl shows what the pipeline does, from the node that runs it: no way into a database is needed. What the tables hold, and changes of it, are
the affair of duoetl on that host.`

func newETL(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "etl", Short: "Show what the pipeline does", Long: etlLong, Args: cobra.NoArgs,
		Example: example("duoctl etl status", "duoctl etl runs --limit 5 -o json"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newETLStatus(a), newETLRuns(a))
	return cmd
}

// etlQuestion is what is asked of which node.
type etlQuestion struct {
	job, node string
	runs      uint32
}

func (q *etlQuestion) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.job, "job", "etl", "the job that runs the pipeline")
	cmd.Flags().StringVar(&q.node, "node", "", "the node to ask (default: the job's holder)")
}

func newETLStatus(a *app) *cobra.Command {
	q := etlQuestion{runs: 1}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how far the present run is, step by step, and what the last one came to, chunk by chunk",
		Long: `Status shows the run that is on, step by step: the chunk at work, chunks done, rows or bytes, and how fast; then the last run that ended under
this epoch, chunk by chunk, with what is bad: chunks that failed and why, and lines that were put into quarantine.`,
		Example: example("duoctl etl status", "duoctl etl status -o json | jq '.detail.last.chunks[] | select(.error != \"\")'"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.etlStatus(cmd.Context(), q) },
	}
	q.addFlags(cmd)
	return cmd
}

func newETLRuns(a *app) *cobra.Command {
	q := etlQuestion{}
	cmd := &cobra.Command{
		Use:   "runs",
		Short: "Show the past runs of the pipeline's schedule",
		Long: `Runs lists what became of each slot of the job's schedule, the newest first, as the job's database has it: the times are the database's.
A slot that was tried under two epochs is there twice. A job without a schedule has none.`,
		Example: example("duoctl etl runs", "duoctl etl runs --limit 5 -o yaml"),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.etlRuns(cmd.Context(), q) },
	}
	q.addFlags(cmd)
	cmd.Flags().Uint32Var(&q.runs, "limit", 20, "at most so many runs, up to 200")
	return cmd
}

// askProgress asks the node that is meant; job is what the cluster says of it.
func (a *app) askProgress(ctx context.Context, q etlQuestion) (*duoflowv1.ProgressResponse, *duoflowv1.JobStatus, error) {
	links, err := a.links()
	if err != nil {
		return nil, nil, err
	}
	defer closeAll(links)
	status, _, err := a.lookBefore(ctx, links)
	if err != nil {
		return nil, nil, err
	}
	address, err := whereItWrites(status, q.job, q.node)
	if err != nil {
		return nil, nil, err
	}
	job, err := findJob(status, q.job)
	if err != nil {
		return nil, nil, err
	}
	there, err := a.linkTo(address)
	if err != nil {
		return nil, nil, err
	}
	defer closeAll([]*link{there})
	ctx, cancel := a.limited(ctx, readTimeout)
	defer cancel()
	answer, err := there.admin.Progress(ctx, &duoflowv1.ProgressRequest{Job: q.job, Runs: q.runs})
	if err != nil {
		return nil, nil, remote(there.endpoint, err)
	}
	return answer, job, nil
}

// pipeline is what duoetl says at length. What a later version adds is passed over.
type pipeline struct {
	Running *struct {
		Elapsed   time.Duration  `json:"elapsed"`
		Chunks    int            `json:"chunks"`
		Done      int            `json:"done"`
		Failed    int            `json:"failed"`
		Unchanged int            `json:"unchanged"`
		ETA       time.Duration  `json:"eta"`
		Steps     []pipelineStep `json:"steps"`
	} `json:"running"`
	Last *struct {
		Ended     time.Time       `json:"ended"`
		Error     string          `json:"error"`
		Took      time.Duration   `json:"took"`
		Synthetic bool            `json:"synthetic"`
		Chunks    []pipelineChunk `json:"chunks"`
	} `json:"last"`
}

type pipelineStep struct {
	Step  string  `json:"step"`
	Chunk string  `json:"chunk"`
	Done  int     `json:"done"`
	Bytes int64   `json:"bytes"`
	Rows  int64   `json:"rows"`
	Rate  float64 `json:"rate"`
	Note  string  `json:"note"`
}

type pipelineChunk struct {
	Chunk       string `json:"chunk"`
	State       string `json:"state"`
	Rows        int64  `json:"rows"`
	Strikes     int64  `json:"strikes"`
	Quarantined int64  `json:"quarantined"`
	Error       string `json:"error"`
}

func (a *app) etlStatus(ctx context.Context, q etlQuestion) error {
	answer, job, err := a.askProgress(ctx, q)
	if err != nil {
		return err
	}
	var p pipeline
	if answer.GetDetail() != "" {
		if err := json.Unmarshal([]byte(answer.GetDetail()), &p); err != nil {
			return failed(fmt.Sprintf("job %s on %s: what it says is not what a pipeline says", q.job, answer.GetNode()), "name the job of duoetl with --job")
		}
	}
	o := objectOf(answer)
	for i := range o {
		if o[i].name == "detail" {
			o[i].value = embedded(answer.GetDetail())
		}
	}
	return a.print(append(object{{"job", q.job}}, o...), func(w io.Writer) { writePipeline(w, q, answer, job, p) })
}

// embedded is JSON as a value of the answer, numbers as they were written; nil for nothing.
func embedded(text string) any {
	var value any
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if text == "" || d.Decode(&value) != nil {
		return nil
	}
	return numbers(value)
}

// numbers makes numbers of what the decoder left as text, for YAML.
func numbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		n, _ := v.Float64() // it was valid JSON
		return n
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = numbers(v[key])
		}
	}
	return value
}

func writePipeline(w io.Writer, q etlQuestion, answer *duoflowv1.ProgressResponse, job *duoflowv1.JobStatus, p pipeline) {
	for _, on := range job.GetNodes() {
		if on.GetNode() == answer.GetNode() {
			fmt.Fprintf(w, "job %s on %s: %s, epoch %s\n", q.job, answer.GetNode(), grid.OrDash(on.GetState()), epochText(answer.GetEpoch()))
			if on.GetStatus() != "" {
				fmt.Fprintf(w, "it says: %s (%s ago)\n", on.GetStatus(), optionalAge(on.StatusAgeMs))
			}
			if on.GetSchedule() != "" {
				fmt.Fprintln(w, on.GetSchedule())
			}
		}
	}
	if answer.GetDetail() == "" {
		fmt.Fprintln(w, "no run since this life began")
	}
	if r := p.Running; r != nil {
		fmt.Fprintf(w, "\nrun: %d of %d chunks, %d up to date, %d failed; %s, about %s left\n",
			r.Done+r.Failed+r.Unchanged, r.Chunks, r.Unchanged, r.Failed, grid.Took(r.Elapsed), grid.Took(r.ETA))
		writeSteps(w, r.Steps)
	}
	writeLastRun(w, p)
	if len(answer.GetRuns()) > 0 {
		fmt.Fprintln(w)
		writeRuns(w, answer.GetRuns())
	}
}

func writeSteps(w io.Writer, steps []pipelineStep) {
	g := &grid.Grid{Head: []string{"STEP", "CHUNK", "DONE", "ROWS", "BYTES", "PER SECOND", "NOTE"}}
	for _, s := range steps {
		rate := grid.Dash
		if s.Rate > 0 {
			rate = fmt.Sprintf("%.0f", s.Rate)
		}
		g.Add(s.Step, grid.OrDash(s.Chunk), fmt.Sprint(s.Done), fmt.Sprint(s.Rows), fmt.Sprint(s.Bytes), rate, grid.OrDash(s.Note))
	}
	g.Write(w)
}

func writeLastRun(w io.Writer, p pipeline) {
	last := p.Last
	if last == nil {
		return
	}
	made := ""
	if last.Synthetic {
		made = ", SYNTHETIC data"
	}
	fmt.Fprintf(w, "\nlast run: ended %s after %s%s\n", last.Ended.UTC().Format(time.RFC3339), grid.Took(last.Took), made)
	if last.Error != "" {
		fmt.Fprintf(w, "FAILED: %s\n", last.Error)
	}
	g := &grid.Grid{Head: []string{"CHUNK", "STATE", "ROWS", "STRIKES", "QUARANTINED", "ERROR"}}
	for _, c := range last.Chunks {
		state := c.State
		if state == "" {
			state = "not reached"
		}
		g.Add(c.Chunk, state, fmt.Sprint(c.Rows), fmt.Sprint(c.Strikes), fmt.Sprint(c.Quarantined), grid.OrDash(c.Error))
	}
	g.Write(w)
}

func (a *app) etlRuns(ctx context.Context, q etlQuestion) error {
	answer, _, err := a.askProgress(ctx, q)
	if err != nil {
		return err
	}
	runs := []any{}
	for _, r := range answer.GetRuns() {
		runs = append(runs, objectOf(r))
	}
	return a.print(object{{"job", q.job}, {"node", answer.GetNode()}, {"runs", runs}}, func(w io.Writer) {
		if len(runs) == 0 {
			fmt.Fprintf(w, "job %s has no past runs: it has no schedule, or nothing was due yet\n", q.job)
			return
		}
		writeRuns(w, answer.GetRuns())
	})
}

func writeRuns(w io.Writer, runs []*duoflowv1.PastRun) {
	g := &grid.Grid{Head: []string{"SLOT", "STATE", "EXIT", "NODE", "EPOCH", "BEGAN", "TOOK"}}
	for _, r := range runs {
		exit, took := grid.Dash, grid.Dash
		if r.GetState() == "failed" {
			exit = fmt.Sprint(r.GetExit())
		}
		if r.GetEndedUnixMs() > 0 {
			took = ageText(uint64(max(r.GetEndedUnixMs()-r.GetBeganUnixMs(), 0)))
		}
		g.Add(momentText(r.GetSlotUnixMs()), r.GetState(), exit, r.GetNode(), epochText(r.GetEpoch()), momentText(r.GetBeganUnixMs()), took)
	}
	g.Write(w)
}

func momentText(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339) }
