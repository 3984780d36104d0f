package takeover

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Span is a duration that was measured, or one that is only known to be longer, because nobody waited any more.
type Span struct {
	Seconds float64
	Over    bool `json:",omitempty"` // it took longer than Seconds
}

// Took is a measured duration.
func Took(d time.Duration) Span { return Span{Seconds: d.Seconds()} }

// LongerThan is a duration that was not seen to end.
func LongerThan(d time.Duration) Span { return Span{Seconds: d.Seconds(), Over: true} }

func (s Span) String() string {
	text := ""
	switch {
	case s.Seconds >= 100:
		text = fmt.Sprintf("%.0f s", s.Seconds)
	case s.Seconds >= 10:
		text = fmt.Sprintf("%.1f s", s.Seconds)
	default:
		text = fmt.Sprintf("%.2f s", s.Seconds)
	}
	if s.Over {
		return "> " + text
	}
	return text
}

// Summary is what is said of several values of one thing.
type Summary struct {
	N        int
	P50, Max Span
	All      []Span // in the order in which they were measured
}

// Summarize takes, of an even number of values, the longer one of the two in the middle as median. A span that is only
// known to be longer counts as longer than a measured one of the same length.
func Summarize(values []Span) Summary {
	s := Summary{N: len(values), All: values}
	if s.N == 0 {
		return s
	}
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, func(a, b Span) int {
		if a.Seconds == b.Seconds && a.Over != b.Over {
			if a.Over {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Seconds, b.Seconds)
	})
	s.P50, s.Max = sorted[s.N/2], sorted[s.N-1]
	return s
}

func (s Summary) String() string {
	switch s.N {
	case 0:
		return "-"
	case 1:
		return s.P50.String()
	}
	return fmt.Sprintf("%s / %s", s.P50, s.Max)
}
