package etl

import "context"

// Kinds of driver.
const (
	DriverBuiltin = "builtin" // does the steps in this process
	DriverAirflow = "airflow" // has a DAG do them: triggers its run, with an id that is always the same for the same work, and follows it
)

// Driver brings chunks through the steps. Whichever it is, the steps are those of this package, and the ledger says how far
// they are.
type Driver interface {
	// Run does what is not done of a selection, and returns when it is done or cannot be. As Pipeline.Run.
	Run(ctx context.Context, s Selection) (Report, error)
}

// driver is the one that the configuration names. A single step is done here: it is what the DAG's tasks ask for.
func (p *Pipeline) driver(s Selection) Driver {
	if p.config.Driver == DriverAirflow && s.Only == "" {
		return airflow{p}
	}
	return builtin{p}
}
