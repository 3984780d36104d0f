package grid_test

import (
	"strings"
	"testing"
	"time"

	"github.com/duoflow/duoflow/cmd/grid"
)

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 0: "0 ms", 999_999 * time.Microsecond: "999 ms", time.Second: "1.0 s", 90*time.Second + 60*time.Millisecond: "90.1 s",
		2 * time.Minute: "2m0s", 26*time.Hour + 1600*time.Millisecond: "26h0m2s",
	} {
		if got := grid.Age(d); got != want {
			t.Errorf("age of %s: %q, want %q", d, got, want)
		}
		if took := grid.Took(d); (d > 0 && took != want) || (d <= 0 && took != grid.Dash) {
			t.Errorf("%s took %q", d, took)
		}
	}
}

func TestWords(t *testing.T) {
	if got := grid.OrDash("") + grid.OrDash("x") + grid.YesNo(true) + grid.YesNo(false); got != "-xyesno" {
		t.Error(got)
	}
}

func TestPrintable(t *testing.T) {
	var out strings.Builder
	text := "a\x1b[31m\u202eb\u2066\u200f\r\x7f\u009bc é\n"
	if n, err := (grid.Printable{W: &out}).Write([]byte(text)); err != nil || n != len(text) || out.String() != "a[31mbc é\n" {
		t.Errorf("%q, %d of %d, %v", out.String(), n, len(text), err)
	}
}
