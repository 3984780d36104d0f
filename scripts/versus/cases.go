package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Faults.
const (
	kill   = "kill"
	freeze = "freeze"
)

// Sides.
const (
	pair    = "two native schedulers"
	restart = "one native scheduler, restarted"
	duoflow = "duoflow"
)

// experiment is one case: a fault and who suffers it.
type experiment struct {
	Name  string
	Side  string
	Fault string
	What  string
}

// experiments are in the order in which they are carried out. Those of one side share a laboratory.
var experiments = []experiment{
	{"native-freeze", pair, freeze, "one of two schedulers is frozen for 15 s while it holds the scheduling lock"},
	{"native-kill", pair, kill, "one of two schedulers is killed when it has queued tasks and not sent them yet"},
	{"native-restart", restart, kill, "the only scheduler is killed at that moment and restarted at once"},
	{"duoflow-kill", duoflow, kill, "the active host is killed at that moment"},
	{"duoflow-freeze", duoflow, freeze, "the active host is frozen for 15 s while its scheduler holds that lock"},
}

// sides in their order.
var sides = []string{pair, restart, duoflow}

func caseNamed(name string) (experiment, bool) {
	for _, e := range experiments {
		if e.Name == name {
			return e, true
		}
	}
	return experiment{}, false
}

// of returns the wanted cases of a side.
func (o options) of(side string) []experiment {
	var some []experiment
	for _, e := range experiments {
		if e.Side == side && o.wants(e.Name) {
			some = append(some, e)
		}
	}
	return some
}

func listCases() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	for _, e := range experiments {
		fmt.Fprintf(w, "  %s\t%s\n", e.Name, e.What)
	}
	_ = w.Flush() // a strings.Builder never fails
	return text.String()
}
