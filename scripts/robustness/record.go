package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/duoflow/duoflow/scripts/commitorder"
	"github.com/duoflow/duoflow/scripts/program"
)

// Names in the folder of a run.
const (
	runName     = "run.json"
	trialsName  = "trials.jsonl" // a trial each line
	commitsName = "commits"      // a committed row each line, in the order of the commits, of what the metastore still holds
	lostName    = "lost"         // rows that a failover of the metastore has lost, and which
	tableName   = "table"        // rows that the table holds at the end, counted by writer
	journalName = "journal"      // what was acknowledged, a file for each writer
)

// Run is what the trials of a folder have in common.
type Run struct {
	Seed     uint64
	Commit   string // of the repository
	Postgres int    // major version
	Started  time.Time
	Only     string `json:",omitempty"`
}

// Harm is one trouble of a trial.
type Harm struct {
	Trouble string
	Node    string
	// Begun and Held are seconds; Begun counts from the trial's first harm.
	Begun, Held float64
	Moves       string // what it may do to the job: may, must or mustNot
	Missed      string `json:",omitempty"` // why there was nothing to hit
}

// Trial is one trouble, or a pair, and what came of it. Times are in seconds.
type Trial struct {
	Number int
	Harms  []Harm
	// Node and Epoch were active before, AfterNode and After in the end.
	Node, AfterNode string
	Epoch, After    uint64
	Served          []uint64 `json:",omitempty"` // epochs above Epoch under which the job committed in this trial
	Gap             float64  // longest time without a committed row of the job
	Took            float64
	Rows            int      // committed in this trial
	Refused         int64    // attempts with stolen credentials of an older epoch that the metastore refused
	Load            float64  // of the machine, over a minute
	Ended           []string `json:",omitempty"` // daemons that ended by themselves
	Since           float64  // from the end of the trial before to the first harm; 0 for the first trial
	Late            float64  // by so much this program's own pulse was late
	Why             []string `json:",omitempty"` // what duoflow says of the new epochs
	Stuck           string   `json:",omitempty"` // why it did not recover; empty when it did
}

// Moved reports whether the job has another epoch than before.
func (t Trial) Moved() bool { return t.After != t.Epoch || len(t.Served) > 0 }

// Type is the trouble's name; of a pair, both.
func (t Trial) Type() string {
	names := make([]string, 0, 2)
	for _, h := range t.Harms {
		names = append(names, h.Trouble)
	}
	return strings.Join(names, "+")
}

func (t Trial) String() string {
	held := make([]string, 0, 2)
	for _, h := range t.Harms {
		held = append(held, fmt.Sprintf("%s %s", h.Node, seconds(h.Held).Round(time.Millisecond)))
	}
	head := fmt.Sprintf("robustness: %4d %-34s %-16s", t.Number, t.Type(), strings.Join(held, ", "))
	if t.Stuck != "" {
		return fmt.Sprintf("%s did not recover: %s", head, t.Stuck)
	}
	tail := ""
	if wrong := append(t.wrong(), t.strange()...); len(wrong) > 0 {
		tail = "  ! " + strings.Join(wrong, "; ")
	}
	return fmt.Sprintf("%s epoch %d -> %d, without a row %s, %.1f s%s",
		head, t.Epoch, t.After, short(t.Gap), t.Took, tail)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// folder is where a run is written to. What was written is in the files at once.
type folder struct {
	path string
	out  map[string]*os.File
}

// newFolder makes a folder for a seed below parent; beside that of an earlier run when there is one.
func newFolder(parent string, seed uint64) (*folder, error) {
	path, err := program.NewFolder(parent, strconv.FormatUint(seed, 10))
	if err != nil {
		return nil, err
	}
	return &folder{path: path, out: map[string]*os.File{}}, nil
}

func (f *folder) journal() string { return filepath.Join(f.path, journalName) }

func (f *folder) file(name string) (*os.File, error) {
	if f.out[name] == nil {
		file, err := os.OpenFile(filepath.Join(f.path, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open record: %w", err)
		}
		f.out[name] = file
	}
	return f.out[name], nil
}

func (f *folder) write(name, text string) error {
	file, err := f.file(name)
	if err != nil {
		return err
	}
	if _, err := file.WriteString(text); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

func (f *folder) writeJSON(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	return f.write(name, string(text)+"\n")
}

func (f *folder) writeCommits(name string, commits []commitorder.Commit, remark string) error {
	var text strings.Builder
	for _, c := range commits {
		fmt.Fprintf(&text, "%x %s %d %d %d%s\n", c.LSN, c.Node, c.Epoch, c.PID, c.Seq, remark)
	}
	return f.write(name, text.String())
}

func (f *folder) close() error {
	var errs []error
	for _, file := range f.out {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}

// readLines calls each with every line of a file of a folder, without those of a missing file unless it is needed.
func readLines(path string, needed bool, each func(string) error) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && !needed {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return nil
		}
		if err == nil {
			err = each(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return fmt.Errorf("read record %s:%d: %w", path, n, err)
		}
	}
}

// parseCommit reads a line of commitsName or lostName; remark is what follows the row.
func parseCommit(line string) (c commitorder.Commit, remark string, err error) {
	n, err := fmt.Sscanf(line, "%x %s %d %d %d", &c.LSN, &c.Node, &c.Epoch, &c.PID, &c.Seq)
	if err != nil || n != 5 {
		return c, "", fmt.Errorf("no committed row: %q", line)
	}
	if fields := strings.SplitN(line, " ", 6); len(fields) == 6 {
		remark = fields[5]
	}
	return c, remark, nil
}
