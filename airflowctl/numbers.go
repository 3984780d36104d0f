package airflowctl

import (
	"bytes"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Number is something that a job counts of itself, for people and their graphs: no decision reads it.
type Number struct {
	Name  string // [a-z][a-z0-9_]{0,31}, as in a metric's label
	Value float64
}

// numbersMax is how many a job may have: each is a time series.
const numbersMax = 16

var numberName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// ReadNumbers reads what follows the first line of a status file: `name value` a line, each name once. What is something else is passed over, and
// so is what comes after the 16th, or after the last end of a line: a file that was cut off would give half a number.
func ReadNumbers(text []byte) []Number {
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	rest = rest[:bytes.LastIndexByte(rest, '\n')+1]
	var found []Number
	seen := map[string]bool{}
	for line := range strings.Lines(string(rest)) {
		words := strings.Fields(line)
		if len(words) != 2 || !numberName.MatchString(words[0]) || seen[words[0]] || len(found) == numbersMax {
			continue
		}
		value, err := strconv.ParseFloat(words[1], 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
			continue
		}
		seen[words[0]] = true
		found = append(found, Number{words[0], value})
	}
	return found
}
