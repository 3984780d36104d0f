package grid

import (
	"fmt"
	"time"
)

// Dash stands for what is unknown or does not apply.
const Dash = "-"

// OrDash is the text, or Dash when there is none.
func OrDash(text string) string {
	if text == "" {
		return Dash
	}
	return text
}

// YesNo is "yes" or "no".
func YesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// Age is a duration with a precision that fits it; below 0 it is 0.
func Age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Took is the age of what has a duration: Dash when that is 0 or less, so unknown.
func Took(d time.Duration) string {
	if d <= 0 {
		return Dash
	}
	return Age(d)
}
