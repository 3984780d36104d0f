package main

import (
	"encoding/json"
	"fmt"
	"time"
)

// entry is a line of the journal, as scripts/airflow/dags/tasks.py writes it.
type entry struct {
	Task
	What     string
	Body     string
	Try      int
	Instance string
	Date     string
	PID      int
	Beside   bool
	Outcome  string
	At       int64 // nanoseconds since the machine's start
	Wall     int64 // nanoseconds since 1970
}

// readJournal puts the lines of the bodies together, in the order in which they began.
func readJournal(path string) ([]Body, error) {
	var bodies []Body
	places := map[string]int{}
	err := readLines(path, func(line []byte) error {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return err
		}
		at, known := places[e.Body]
		switch {
		case e.What == "begin" && !known && e.Body != "" && e.Instance != "":
			places[e.Body] = len(bodies)
			bodies = append(bodies, Body{
				Task: e.Task, ID: e.Body, Try: e.Try, Instance: e.Instance, Date: e.Date, PID: e.PID, Beside: e.Beside,
				Begin: e.At, BeganAt: time.Unix(0, e.Wall),
			})
		case e.What == "end" && known && bodies[at].End == 0 && e.At > 0:
			bodies[at].End, bodies[at].EndedAt, bodies[at].Outcome = e.At, time.Unix(0, e.Wall), e.Outcome
		default:
			return fmt.Errorf("no entry of a body: %s", line)
		}
		return nil
	})
	return bodies, err
}
