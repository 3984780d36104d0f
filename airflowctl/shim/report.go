package shim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind says what a Report is about.
type Kind string

// The kinds, in the order in which a life reports them; notes may come at any time.
const (
	Warm Kind = "warm" // waits for go
	Job  Kind = "job"  // the scheduler's row in table job is committed
	Loop Kind = "loop" // start-up adoption and the first scheduling loop are done
	Note Kind = "note" // something that costs speed or a report, for the log
)

// Report is one line of the program. Only Warm is certain to come: Job and Loop hang on Airflow's
// internals and are missing when those have moved, with a Note that says so.
type Report struct {
	Kind Kind
	PID  int           // Warm: the process
	Took time.Duration // Warm: from the start of the program to ready
	Job  int64         // Job: id in table job
	Text string        // Note
}

// Go is the line that turns a warm process into the scheduler of an epoch.
func Go(epoch uint64) string { return fmt.Sprintf("go %d", epoch) }

// Parse reads one line of the program, without its line end.
func Parse(line string) (Report, error) {
	kind, rest, _ := strings.Cut(line, " ")
	report := Report{Kind: Kind(kind)}
	var err error
	switch report.Kind {
	case Warm:
		err = parseWarm(rest, &report)
	case Job:
		report.Job, err = strconv.ParseInt(rest, 10, 64)
	case Loop:
		if rest != "" {
			err = fmt.Errorf("unexpected %q", rest)
		}
	case Note:
		report.Text = rest
	default:
		err = fmt.Errorf("unknown kind")
	}
	if err != nil {
		return Report{}, fmt.Errorf("parse shim line %q: %w", line, err)
	}
	return report, nil
}

func parseWarm(rest string, report *Report) error {
	pid, seconds, _ := strings.Cut(rest, " ")
	var err error
	if report.PID, err = strconv.Atoi(pid); err != nil {
		return err
	}
	took, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return err
	}
	if report.PID <= 0 || !(took >= 0 && took < 1e6) {
		return fmt.Errorf("out of range")
	}
	report.Took = time.Duration(took * float64(time.Second))
	return nil
}
