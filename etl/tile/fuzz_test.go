package tile

import (
	"testing"
	"time"
)

// FuzzParseChunk: what is accepted is spelled in one way only, and covers just its days.
func FuzzParseChunk(f *testing.F) {
	for _, text := range []string{"2018", "2020-05", "1970-01", "2999-12", "2020-13", "+202", "2020-5", "２０１８"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseChunk(text)
		if err != nil {
			if c != "" {
				t.Fatalf("%q beside %v", c, err)
			}
			return
		}
		layout := "2006"
		if c.Month() > 0 {
			layout = "2006-01"
		}
		first := c.First().Time()
		if string(c) != text || first.Format(layout) != text || first.Day() != 1 {
			t.Fatalf("%q begins on %s", text, c.First())
		}
		next := (c.Last() + 1).Time()
		if want := first.AddDate(1, 0, 0); c.Month() == 0 && !next.Equal(want) || c.Month() > 0 && !next.Equal(first.AddDate(0, 1, 0)) {
			t.Fatalf("%q ends on %s", text, c.Last())
		}
		if !c.Contains(c.First()) || !c.Contains(c.Last()) || c.Contains(c.First()-1) || c.Contains(c.Last()+1) {
			t.Fatalf("%q does not know its days", text)
		}
	})
}

// FuzzParseDay: what is accepted is spelled in one way only, and is the day that package time takes it for.
func FuzzParseDay(f *testing.F) {
	for _, text := range []string{"2018-08-29", "1970-01-01", "1600-02-29", "0000-01-01", "9999-12-31", "2019-02-29", "2018-8-29"} {
		f.Add(text, int32(0))
	}
	f.Fuzz(func(t *testing.T, text string, day int32) {
		if d, err := ParseDay(text); err == nil {
			if d.String() != text {
				t.Fatalf("%q is spelled %s", text, d)
			}
			year, month, of := d.Date()
			if same, ok := DayOf(year, month, of); ok && same != d || !ok && year > 0 {
				t.Fatalf("%q is day %d, or %d", text, d, same)
			}
		} else if d != 0 {
			t.Fatalf("%d beside %v", d, err)
		}
		d := Day(day)
		if year := d.Time().Year(); year < 0 || year > 9999 {
			return // has no spelling
		}
		var back Day
		spelled, err := d.MarshalText()
		if err == nil {
			err = back.UnmarshalText(spelled)
		}
		if err != nil || back != d || !d.Time().Equal(time.Unix(0, 0).UTC().AddDate(0, 0, int(day))) {
			t.Fatalf("day %d is spelled %s, which is day %d: %v", day, spelled, back, err)
		}
	})
}
