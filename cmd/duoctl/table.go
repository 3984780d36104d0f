package main

import (
	"fmt"
	"time"

	"github.com/duoflow/duoflow/cmd/grid"
)

// epochText shows 0, no epoch, as a dash.
func epochText(epoch uint64) string {
	if epoch == 0 {
		return grid.Dash
	}
	return fmt.Sprint(epoch)
}

// millisText shows a duration with a precision that fits it; 0 is unknown.
func millisText(millis float64) string {
	switch {
	case millis <= 0:
		return grid.Dash
	case millis < 10:
		return fmt.Sprintf("%.1f ms", millis)
	}
	return ageText(uint64(millis + 0.5))
}

// ageText shows an age as the protocol has it.
func ageText(millis uint64) string { return grid.Age(time.Duration(millis) * time.Millisecond) }

// optionalAge is ageText of a field that may be absent.
func optionalAge(millis *uint64) string {
	if millis == nil {
		return grid.Dash
	}
	return ageText(*millis)
}
