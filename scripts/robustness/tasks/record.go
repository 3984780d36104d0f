package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/duoflow/duoflow/scripts/commitorder"
)

// Names in the folder of a run. All but the first are lines of JSON.
const (
	runName       = "run.json"
	journalName   = "journal.jsonl" // the bodies' own
	trialsName    = "trials.jsonl"
	triggersName  = "triggers.jsonl"
	runsName      = "runs.jsonl"
	instancesName = "instances.jsonl"
	notesName     = "notes.jsonl"
	messagesName  = "messages.jsonl"
	commitsName   = "commits.jsonl" // statements of the epochs' roles, in the order of the commits
)

// appendJSON adds lines to a file.
func appendJSON[T any](path string, values ...T) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open record: %w", err)
	}
	lines := bufio.NewWriter(file)
	encoder := json.NewEncoder(lines)
	var errs []error
	for _, v := range values {
		errs = append(errs, encoder.Encode(v))
	}
	if err := errors.Join(append(errs, lines.Flush(), file.Close())...); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	return nil
}

// readLines calls each with every line of a file.
func readLines(path string, each func(line []byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	defer file.Close()
	lines := bufio.NewReader(file)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err == nil {
			err = each(line)
		}
		if err != nil {
			return fmt.Errorf("read record %s:%d: %w", path, n, err)
		}
	}
}

func readJSON[T any](path string) ([]T, error) {
	var values []T
	err := readLines(path, func(line []byte) error {
		var v T
		err := json.Unmarshal(line, &v)
		values = append(values, v)
		return err
	})
	return values, err
}

// readEvidence reads the folder of a run.
func readEvidence(folder string) (*Evidence, error) {
	e := &Evidence{}
	in := func(name string) string { return filepath.Join(folder, name) }
	runs, err := readJSON[Run](in(runName))
	if err != nil {
		return nil, err
	}
	if len(runs) != 1 {
		return nil, fmt.Errorf("read record %s: it tells of %d runs", in(runName), len(runs))
	}
	e.Run = runs[0]
	var errs [8]error
	e.Bodies, errs[0] = readJournal(in(journalName))
	e.Trials, errs[1] = readJSON[Trial](in(trialsName))
	e.Triggers, errs[2] = readJSON[Trigger](in(triggersName))
	e.Runs, errs[3] = readJSON[DagRun](in(runsName))
	e.Instances, errs[4] = readJSON[Instance](in(instancesName))
	e.Notes, errs[5] = readJSON[Note](in(notesName))
	e.Messages, errs[6] = readJSON[Message](in(messagesName))
	e.Commits, errs[7] = readJSON[commitorder.Row](in(commitsName))
	return e, errors.Join(errs[:]...)
}
