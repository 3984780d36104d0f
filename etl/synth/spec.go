package synth

import (
	"fmt"
	"math"
)

// FirstYear and LastYear bound the years that can be made.
const (
	FirstYear = 1987
	LastYear  = 2020
)

// Marker stands wherever a format has a place for a comment.
const Marker = "synthetic: made by duoflow etl/synth, calibrated to published totals; not observations"

// Spec names a year of rows. Equal specs give equal rows.
type Spec struct {
	Year int    // FirstYear..LastYear
	Seed uint64 // 0 is a seed as any other

	// Scale makes less of it, 0 < Scale <= 1; 0 means 1. It is rounded to millionths. A month has floor(total x Scale)
	// strikes; its days share them by rounding the running sum down, so a day may get none below about 1/1000. Rows
	// follow strikes at the same mean, and need no rounding. The top tiles of 2018 are left out below 1.
	Scale float64
}

// millionths checks the spec and returns its scale.
func (s Spec) millionths() (int64, error) {
	if s.Year < FirstYear || s.Year > LastYear {
		return 0, fmt.Errorf("year %d is not in %d..%d", s.Year, FirstYear, LastYear)
	}
	if s.Scale == 0 {
		return million, nil
	}
	m := int64(math.Round(s.Scale * million))
	if !(s.Scale > 0 && s.Scale <= 1) || m == 0 {
		return 0, fmt.Errorf("scale %v is not in 0.000001..1", s.Scale)
	}
	return m, nil
}

const million = 1_000_000
