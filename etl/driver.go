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

// Driver brings chunks through the steps. Whichever it is, the steps are those of this package, and the ledger says how far
// they are.
type Driver interface {
	// Run does what is not done of a selection, and returns when it is done or cannot be. As Pipeline.Run.
	Run(ctx context.Context, s Selection) (Report, error)
}

// driver is the one that the configuration names.
func (p *Pipeline) driver() (Driver, error) {
	if err := checkDriver(p.config.Driver); err != nil {
		return nil, fmt.Errorf("driver: %w", err)
	}
	return builtin{p}, nil
}

// checkDriver says what is wrong with a kind of driver.
func checkDriver(kind string) error {
	switch kind {
	case DriverBuiltin:
		return nil
	case DriverAirflow:
		return errors.New("airflow is not in this version yet; use builtin")
	}
	return fmt.Errorf("%q is unknown; there is builtin", kind)
}
