// Package program is what the programs of scripts have in common around their play: arguments, signals, the report for
// people or as JSON, and exit codes.
package program

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes. A program's usage says what they mean there.
const (
	exitBroken = 1 // the play was carried out, and its result is not sound
	exitUsage  = 2
	exitFailed = 3 // the play, or its report, could not be carried out
)

// Main runs a program, asks it to end at an interrupt or SIGTERM, and returns the exit code for the process.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

// NewFlags returns an empty set that never exits, and writes usage in front of its flags.
func NewFlags(name, usage string, stderr io.Writer) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, usage)
		set.PrintDefaults()
	}
	return set
}

// Program plays once and reports, in the form that its flag -o asks for. Name, Flags, Check and Play are needed.
type Program struct {
	Name  string
	Usage string              // ends where the list of flags begins
	Flags func(*flag.FlagSet) // declares all but -o
	// Check finds what is wrong with values and with rest, the arguments that are no flags. It may set what was left out.
	Check func(rest []string) error
	// Play writes its progress in lines that begin with the program's name.
	Play func(ctx context.Context, progress io.Writer) (*Result, error)

	Text   string // what -o calls the form for people; "" = table
	Indent string // of JSON; "" = all in one line
}

// Result is what came of a play.
type Result struct {
	Report any                   // what JSON shows
	Table  func(io.Writer) error // writes it for people
	Broken []string              // what is wrong with it, a line each; empty: it is sound
}

// Run reads the arguments, plays, reports on stdout, says on stderr what is wrong, and returns the exit code.
func (p Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	form, err := p.Parse(args, stderr)
	if err != nil {
		return Refuse(p.Name, err, stderr)
	}
	r, err := p.Play(ctx, stderr)
	if err == nil {
		err = p.show(r, form, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", p.Name, err)
		return exitFailed
	}
	for _, line := range r.Broken {
		fmt.Fprintf(stderr, "%s: %s\n", p.Name, line)
	}
	if len(r.Broken) > 0 {
		return exitBroken
	}
	return 0
}

// Refuse says what is wrong with the arguments, unless they ask for help, and returns the exit code for them.
func Refuse(name string, err error, stderr io.Writer) int {
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(stderr, "%s: %v\n", name, err)
	return exitUsage
}

// Parse reads the arguments and returns the value of -o. The error is flag.ErrHelp when they ask for help.
func (p Program) Parse(args []string, stderr io.Writer) (form string, err error) {
	text := cmp.Or(p.Text, "table")
	set := NewFlags(p.Name, p.Usage, stderr)
	set.StringVar(&form, "o", text, text+" or json")
	p.Flags(set)
	if err := set.Parse(args); err != nil {
		return "", err
	}
	if form != text && form != "json" {
		return "", fmt.Errorf("-o %q; want %s or json", form, text)
	}
	return form, p.Check(set.Args())
}

func (p Program) show(r *Result, form string, out io.Writer) error {
	if form != "json" {
		return r.Table(out)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", p.Indent)
	return encoder.Encode(r.Report)
}
