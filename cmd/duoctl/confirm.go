package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// confirm asks the operator. Where nobody can be asked it refuses: a script must say --yes.
func (a *app) confirm(ctx context.Context, question string) error {
	if !a.terminal {
		return usage("this changes the cluster and there is no terminal to ask on", "add --yes, or --dry-run to only look")
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	line := make(chan string, 1)
	go func() { // a read from a terminal cannot be ended; after an interrupt the process ends with it
		text, _ := bufio.NewReader(a.in).ReadString('\n') // the end of input is a no
		line <- text
	}()
	answer := ""
	select {
	case answer = <-line:
	case <-ctx.Done():
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return failed("not confirmed; nothing was changed", "")
}
