package etl

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/bigq"
	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/objects"
	"github.com/duoflow/duoflow/etl/tile"
	"github.com/duoflow/duoflow/etl/warehouse"
)

var (
	// ErrQuality: a chunk is not good enough to be loaded; somebody has to look at it.
	ErrQuality = errors.New("quality gate")
	// ErrPartial: some chunks are done and some are not; another run may finish them.
	ErrPartial = errors.New("some chunks are not done")
	// ErrNotDone: a step was asked for whose predecessor is not done.
	ErrNotDone = errors.New("the step before is not done")
	// ErrNotYet: somebody only looked whether a step is done, and it is not.
	ErrNotYet = errors.New("not done yet")
)

// Exit codes of duoetl. Scripts depend on them, so they never change.
const (
	ExitOK      = 0
	ExitFailed  = 1
	ExitUsage   = 2
	ExitQuality = 3
	ExitFenced  = 4
	ExitPartial = 5
)

// outcome is how a run ended that did not do everything: its failures, in order, and the code that they come to together.
type outcome struct {
	code     int
	failures []error
}

func (o *outcome) Error() string { return errors.Join(o.failures...).Error() }

func (o *outcome) Unwrap() []error { return o.failures }

// ExitCode is the code that says what an error means to whoever started the program. Fenced is told before all else.
func ExitCode(err error) int {
	var problems *Problems
	var run *outcome
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, warehouse.ErrFenced):
		return ExitFenced
	case errors.As(err, &run):
		return run.code
	case errors.Is(err, ErrPartial):
		return ExitPartial
	case errors.As(err, &problems):
		return ExitUsage
	case gate(err):
		return ExitQuality
	}
	return ExitFailed
}

// gates are the errors that another try cannot mend, because the data themselves are what is wrong.
var gates = [...]error{
	ErrQuality, warehouse.ErrShrunk, warehouse.ErrMismatch, aggregate.ErrDiffers,
	nldn.ErrHeader, nldn.ErrEncoding, nldn.ErrEmpty, nldn.ErrLimit, nldn.ErrForeign, bigq.ErrSchema,
}

func gate(err error) bool {
	for _, known := range gates {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// ends tells whether an error concerns the whole run and not one chunk of it.
func ends(err error) bool {
	return errors.Is(err, warehouse.ErrFenced) || errors.Is(err, warehouse.ErrNotSetUp) || errors.Is(err, warehouse.ErrChanged) ||
		errors.Is(err, warehouse.ErrFull) || sparkEnds(err) || errors.Is(err, context.Canceled)
}

// advice is what somebody can do about an error whose own words do not say it. {chunk} is the chunk.
var advice = [...]struct {
	err  error
	text string
}{
	{nldn.ErrDamaged, "it was fetched twice and was damaged twice: put a whole file at the source"},
	{nldn.ErrHeader, "is it a file of lightning tiles? A new name of a column wants a new version of duoetl"},
	{nldn.ErrForeign, "does the file of another chunk lie under this one's name?"},
	{nldn.ErrLimit, "no file of lightning tiles is like that; look at the source"},
	{bigq.ErrSchema, "a changed table wants a new version of duoetl"},
	{objects.ErrReplaced, "the source changed during the copy: run again when it is settled"},
	{objects.ErrChecksum, "if it happens again, test this machine's memory and network, and look at the source"},
	{warehouse.ErrShrunk, "duoetl run --chunk {chunk} --accept"},
	{warehouse.ErrFull, "make room for it, then duoetl run goes on"},
}

// advised adds the advice to an error of a chunk.
func advised(chunk tile.Chunk, err error) error {
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return fmt.Errorf("%w (%s)", err, strings.ReplaceAll(a.text, "{chunk}", string(chunk)))
		}
	}
	return err
}
