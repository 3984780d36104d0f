package tile

import (
	"fmt"
	"time"
)

// Day counts days since 1970-01-01 in UTC, as Parquet's DATE32 does. The zero value is 1970-01-01.
type Day int32

// secondsPerDay holds in UTC as Go counts it: without leap seconds.
const secondsPerDay = 86400

// DayOf is the day of a date in the Gregorian calendar; month and day count from 1, year is 1..9999. False: no such date.
func DayOf(year, month, day int) (Day, bool) {
	if year < 1 || year > 9999 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, false
	}
	// Count from March, so that the leap day is the last of its year. Howard Hinnant, "chrono-Compatible Low-Level
	// Date Algorithms", days_from_civil.
	if month <= 2 {
		year, month = year-1, month+12
	}
	era, yearOfEra := year/400, year%400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	dayOfEra := yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear
	return Day(era*146097 + dayOfEra - 719468), true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// Date is the day in the Gregorian calendar; month and day count from 1.
func (d Day) Date() (year, month, day int) {
	t := d.Time()
	return t.Year(), int(t.Month()), t.Day()
}

// Time is midnight UTC at which the day begins.
func (d Day) Time() time.Time { return time.Unix(int64(d)*secondsPerDay, 0).UTC() }

func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// ParseDay reads "2018-08-29" and nothing else.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return 0, fmt.Errorf("day %q is not of the form 2018-08-29", s)
	}
	return Day(t.Unix() / secondsPerDay), nil
}

// MarshalText spells the day as String does, in JSON and YAML too.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Day) UnmarshalText(text []byte) error {
	parsed, err := ParseDay(string(text))
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
