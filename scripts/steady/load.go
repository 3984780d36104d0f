package main

import (
	"fmt"
	"runtime"

	"github.com/duoflow/duoflow/scripts/lab"
)

// load is busy processes: each a shell that counts to nowhere at normal priority, in a session of its own, so that the
// kernel treats it as somebody else's work. They end with the lab.
type load struct{ busy []*lab.Process }

func startLoad(host *lab.Host, perProcessor int) (*load, error) {
	l := &load{}
	for i := range perProcessor * runtime.NumCPU() {
		p, err := host.Start(lab.Spec{
			Name: fmt.Sprintf("busy-%d", i), Args: []string{"setsid", "--wait", "sh", "-c", "while :; do :; done"},
		})
		if err != nil {
			return l, err
		}
		l.busy = append(l.busy, p)
	}
	return l, nil
}

// alive counts the busy processes that are there.
func (l *load) alive() int {
	n := 0
	for _, p := range l.busy {
		if !p.Ended() {
			n++
		}
	}
	return n
}
