package etl

import (
	"context"
	"errors"
	"fmt"
)

// Kinds of driver.
const (
	DriverBuiltin = "builtin" // does the steps in this process
	DriverAirflow = "airflow" // its place: a DAG of the same steps, triggered with a run id that is always the same, and followed
)

// ErrDriver: there is no such driver in this version.
var ErrDriver = errors.New("no such driver")

// Driver brings chunks through the steps. Whichever it is, the steps are those of this package, and the ledger says how far
// they are.
type Driver interface {
	// Run does what is not done of a selection, and returns when it is done or cannot be. As Pipeline.Run.
	Run(ctx context.Context, s Selection) (Report, error)
}

// driver is the one that the configuration names.
func (p *Pipeline) driver() (Driver, error) {
	switch p.config.Driver {
	case DriverBuiltin:
		return builtin{p}, nil
	case DriverAirflow:
		return nil, fmt.Errorf("%w: airflow is not in this version yet; use builtin", ErrDriver)
	}
	return nil, fmt.Errorf("%w: %q; there is builtin", ErrDriver, p.config.Driver)
}
