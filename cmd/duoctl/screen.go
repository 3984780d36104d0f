package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/grid"
	duoflowv1 "github.com/duoflow/duoflow/proto/duoflow/v1"
)

const (
	recentMoves = 8 // of the history, below the status
	glanceMost  = 2 * time.Second

	enterScreen = "\x1b[?1049h\x1b[?25l" // the terminal's other page, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTheTop    = "\x1b[H"
	endOfLine   = "\x1b[K\r\n"
	clearBelow  = "\x1b[J"
)

func newWatch(a *app) *cobra.Command {
	every := pollEvery
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show the status and the newest transitions as they change",
		Long: `Watch shows the status and the newest transitions as they change, until Ctrl-C or the end of --timeout.

When its output is no terminal it writes a line for each change of a job's state, and with -o json the whole
status, on one line, at each such change. When no node answers it says so and goes on asking.`,
		Example: example("duoctl watch", "duoctl watch --timeout 1h -o json | jq -c '.jobs[] | [.name, .epoch, .holder]'"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.flags.output == "yaml" {
				return usage("watch does not write yaml", "use -o table or json")
			}
			if every <= 0 {
				return usage(fmt.Sprintf("interval %v is not positive", every), "give an --interval like 500ms")
			}
			return a.watchCluster(cmd.Context(), every)
		},
	}
	cmd.Flags().DurationVar(&every, "interval", every, "time between two looks")
	return cmd
}

// watchCluster shows what it sees until the context ends, which is how it is meant to end.
func (a *app) watchCluster(ctx context.Context, every time.Duration) error {
	links, err := a.links()
	if err != nil {
		return err
	}
	defer closeAll(links)
	var over <-chan time.Time // not the context's deadline: a look at the end of it would be told as one without an answer
	if a.flags.timeout > 0 {
		over = time.After(a.flags.timeout)
	}
	show := (&changes{out: a.out, lines: !a.tabular()}).show
	if a.screen != nil && a.tabular() {
		fmt.Fprint(a.out, enterScreen)
		defer fmt.Fprint(a.out, leaveScreen)
		show = func(g glance) error { return a.draw(g) }
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		g := look(ctx, links)
		if ctx.Err() != nil {
			return nil
		}
		if err := show(g); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			return nil
		case <-ticker.C:
		}
	}
}

// glance is what was seen at one time; err when no node answered.
type glance struct {
	at      time.Time
	status  *duoflowv1.StatusResponse
	history *duoflowv1.HistoryResponse
	err     error
}

func look(ctx context.Context, links []*link) glance {
	ctx, cancel := context.WithTimeout(ctx, glanceMost)
	defer cancel()
	g := glance{at: time.Now()}
	var from *link
	if g.status, from, g.err = best(ctx, links, statusCall); g.err != nil {
		return g
	}
	g.history, g.err = from.admin.History(ctx, &duoflowv1.HistoryRequest{Limit: recentMoves})
	return g
}

// changes writes what differs from what was seen before.
type changes struct {
	out   io.Writer
	lines bool // the whole status as JSON, not a line for people
	shown []string
}

func (c *changes) show(g glance) error {
	var now []string
	for _, job := range g.status.GetJobs() {
		now = append(now, job.GetName()+" "+stateLine(g.status, job.GetName()))
	}
	if g.err != nil {
		now = append(now, g.err.Error())
	}
	before := c.shown
	c.shown = now
	if !c.lines {
		for _, line := range now {
			if !slices.Contains(before, line) {
				fmt.Fprintf(grid.Printable{W: c.out}, "%s %s\n", g.at.UTC().Format("15:04:05.000"), line)
			}
		}
		return nil
	}
	if g.status == nil || slices.Equal(before, now) {
		return nil
	}
	text, err := json.Marshal(objectOf(g.status))
	if err != nil {
		return fmt.Errorf("write json: %w", err)
	}
	fmt.Fprintf(c.out, "%s\n", text)
	return nil
}

// draw fills the terminal: what does not fit is cut off, so that nothing scrolls.
func (a *app) draw(g glance) error {
	var page bytes.Buffer
	w := grid.Printable{W: &page}
	fmt.Fprintf(w, "%s, every look anew; Ctrl-C ends\n\n", g.at.UTC().Format("2006-01-02 15:04:05.0 UTC"))
	if g.err != nil {
		fmt.Fprintf(w, "NO ANSWER: %v\n", g.err)
	} else {
		writeStatus(w, g.status)
		fmt.Fprintln(w)
		writeHistory(w, g.history)
	}
	width, height := a.screen()
	var out strings.Builder
	out.WriteString(toTheTop)
	for i, line := range strings.Split(strings.TrimRight(page.String(), "\n"), "\n") {
		if i >= height-1 {
			break
		}
		out.WriteString(cut(line, width) + endOfLine)
	}
	out.WriteString(clearBelow)
	_, err := io.WriteString(a.out, out.String())
	return err
}

// cut keeps the first characters of a line.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}
