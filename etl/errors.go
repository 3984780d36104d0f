package etl

import (
	"context"
	"errors"

	"github.com/duoflow/duoflow/etl/aggregate"
	"github.com/duoflow/duoflow/etl/nldn"
	"github.com/duoflow/duoflow/etl/warehouse"
)

var (
	// ErrQuality: a chunk is not good enough to be loaded; somebody has to look at it.
	ErrQuality = errors.New("quality gate")
	// ErrPartial: some chunks are done and some are not; another run may finish them.
	ErrPartial = errors.New("some chunks are not done")
	// ErrNotDone: a step was asked for whose predecessor is not done.
	ErrNotDone = errors.New("the step before is not done")
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

// ExitCode is the code that says what an error means to whoever started the program. Fenced is told before all else.
func ExitCode(err error) int {
	var problems *Problems
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, warehouse.ErrFenced):
		return ExitFenced
	case errors.As(err, &problems):
		return ExitUsage
	case errors.Is(err, ErrPartial):
		return ExitPartial
	case gate(err):
		return ExitQuality
	}
	return ExitFailed
}

// gates are the errors that another try cannot mend, because the data themselves are what is wrong.
var gates = [...]error{
	ErrQuality, warehouse.ErrShrunk, warehouse.ErrMismatch, aggregate.ErrDiffers,
	nldn.ErrHeader, nldn.ErrEncoding, nldn.ErrEmpty, nldn.ErrLimit, nldn.ErrForeign,
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
		errors.Is(err, warehouse.ErrFull) || errors.Is(err, context.Canceled)
}
