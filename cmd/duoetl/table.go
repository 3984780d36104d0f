package main

import (
	"fmt"

	"github.com/duoflow/duoflow/cmd/grid"
)

// amount shows a number with a unit that fits it.
func amount(n float64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f G", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1f k", n/1e3)
	case n == 0:
		return grid.Dash
	}
	return fmt.Sprintf("%.0f", n)
}
