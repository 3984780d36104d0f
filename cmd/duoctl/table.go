package main

import (
	"fmt"
	"time"
)

// dash stands for what is unknown or does not apply.
const dash = "-"

func orDash(text string) string {
	if text == "" {
		return dash
	}
	return text
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// epochText shows 0, no epoch, as a dash.
func epochText(epoch uint64) string {
	if epoch == 0 {
		return dash
	}
	return fmt.Sprint(epoch)
}

// millisText shows a duration with a precision that fits it; 0 is unknown.
func millisText(millis float64) string {
	switch {
	case millis <= 0:
		return dash
	case millis < 10:
		return fmt.Sprintf("%.1f ms", millis)
	}
	return ageText(uint64(millis + 0.5))
}

// ageText shows a duration with a precision that fits it.
func ageText(millis uint64) string {
	switch {
	case millis < 1000:
		return fmt.Sprintf("%d ms", millis)
	case millis < 120_000:
		return fmt.Sprintf("%.1f s", float64(millis)/1000)
	}
	return (time.Duration(millis) * time.Millisecond).Round(time.Second).String()
}

// optionalAge is ageText of a field that may be absent.
func optionalAge(millis *uint64) string {
	if millis == nil {
		return dash
	}
	return ageText(*millis)
}
