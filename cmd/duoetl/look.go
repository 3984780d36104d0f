package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	"github.com/duoflow/duoflow/etl"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Show how far each chunk is",
		Long:    "Status reads the ledger in the target database, read-only. It takes no lock, needs no epoch, and may be asked while a run is on.",
		Example: example("duoetl status", "duoetl status -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := etl.LoadConfig(a.flags.config)
			if err != nil {
				return err
			}
			s, err := etl.Look(cmd.Context(), c, a.options())
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) { writeStatus(w, s) })
		},
	}
}

func writeStatus(w io.Writer, s etl.Status) {
	if !s.SetUp {
		fmt.Fprintln(w, "the database is not set up: duoetl init")
		return
	}
	g := grid.Grid{Head: []string{"Chunk", "Step", "State", "Epoch", "Node", "Updated", "Loaded", "Rows", "Strikes", "Data", "Error"}}
	for _, c := range s.Chunks {
		epoch := "by hand"
		if c.Epoch > 0 {
			epoch = fmt.Sprint(c.Epoch)
		}
		g.Add(string(c.Chunk), grid.OrDash(c.Step), grid.OrDash(string(c.State)), epoch, grid.OrDash(c.Node), c.Updated.UTC().Format(time.DateTime),
			grid.YesNo(c.Loaded), fmt.Sprint(c.Rows), fmt.Sprint(c.Strikes), kind(c), grid.OrDash(c.Error))
	}
	g.Write(w)
	fmt.Fprintf(w, "%d rows, %d strikes are loaded%s\n", s.Rows, s.Strikes, badge(s.Synthetic))
}

// kind tells what is loaded of a chunk: tiles that were observed, or made up.
func kind(c etl.ChunkStatus) string {
	switch {
	case !c.Loaded:
		return grid.Dash
	case c.Synthetic:
		return "SYNTHETIC"
	}
	return "observed"
}

func newVerify(a *app) *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:     "verify",
		Short:   "Compare the tables with what was loaded",
		Long:    "Verify reads all tables and compares each chunk with the hash of the result that it was loaded from, and with its files in S3. The exit code is 3 if something differs.",
		Example: example("duoetl verify", "duoetl verify --chunk 2018 -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			only, err := chunksOf(names)
			if err != nil {
				return err
			}
			return a.looking(cmd.Context(), func(p *etl.Pipeline) error {
				findings, err := p.Verify(cmd.Context(), only...)
				if err != nil {
					return err
				}
				if err := a.print(append([]warehouse.Finding{}, findings...), func(w io.Writer) { writeFindings(w, findings) }); err != nil {
					return err
				}
				if len(findings) > 0 {
					return fmt.Errorf("%w: %d findings", etl.ErrQuality, len(findings))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringSliceVar(&names, "chunk", nil, "only this chunk, such as 2018 or 2020-05; one that is not loaded is a finding; repeatable")
	return cmd
}

func writeFindings(w io.Writer, findings []warehouse.Finding) {
	if len(findings) == 0 {
		fmt.Fprintln(w, "the tables hold what was loaded")
		return
	}
	g := grid.Grid{Head: []string{"Chunk", "Finding"}}
	for _, f := range findings {
		g.Add(string(f.Chunk), f.What)
	}
	g.Write(w)
}

func newQuarantine(a *app) *cobra.Command {
	var chunk string
	cmd := &cobra.Command{
		Use:     "quarantine",
		Short:   "Show lines that were not taken",
		Long:    "Quarantine lists the chunks with lines that were not understood, and with --chunk the lines themselves: file, line, rule, text.",
		Example: example("duoetl quarantine", "duoetl quarantine --chunk 2018"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var only tile.Chunk
			if chunk != "" {
				c, err := chunksOf([]string{chunk})
				if err != nil {
					return err
				}
				only = c[0]
			}
			return a.looking(cmd.Context(), func(p *etl.Pipeline) error {
				list, err := p.Quarantine(cmd.Context(), only)
				if err != nil {
					return err
				}
				return a.print(list, func(w io.Writer) { writeQuarantine(w, list) })
			})
		},
	}
	cmd.Flags().StringVar(&chunk, "chunk", "", "show the lines of this chunk")
	return cmd
}

func writeQuarantine(w io.Writer, list []etl.Quarantine) {
	g := grid.Grid{Head: []string{"Chunk", "Lines", "Rules"}}
	for _, q := range list {
		var rules []string
		for rule, n := range q.ByRule {
			rules = append(rules, fmt.Sprintf("%s %d", rule, n))
		}
		g.Add(string(q.Chunk), fmt.Sprint(q.Lines), strings.Join(sorted(rules), ", "))
	}
	g.Write(w)
	for _, q := range list {
		for _, b := range q.Bad {
			fmt.Fprintln(w, b)
		}
	}
}

func newDoctor(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "doctor",
		Short:   "Try everything that a run needs",
		Long:    "Doctor tries database, S3, Google Cloud Storage, source and engine, and changes nothing. The exit code is 1 if something is wrong.",
		Example: example("duoetl doctor"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.looking(cmd.Context(), func(p *etl.Pipeline) error {
				checks, bad := p.Doctor(cmd.Context()), 0
				g := grid.Grid{Head: []string{"Check", "OK", "Says"}}
				for _, c := range checks {
					g.Add(c.Name, grid.YesNo(c.OK), c.Says)
					if !c.OK {
						bad++
					}
				}
				if err := a.print(checks, g.Write); err != nil {
					return err
				}
				if bad > 0 {
					return fmt.Errorf("%d of %d checks failed", bad, len(checks))
				}
				return nil
			})
		},
	}
}
