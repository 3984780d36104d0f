package fence

import (
	"testing"
	"time"
)

func TestNextProbe(t *testing.T) {
	const every = 250 * time.Millisecond
	for wall := time.Unix(1_700_000_000, 0); wall.Unix() < 1_700_000_002; wall = wall.Add(7_777_777) {
		d := nextProbe(wall, every)
		if d <= every/2 || d > every*3/2 || wall.Add(d).UnixNano()%int64(every) != 0 {
			t.Fatalf("%s after %s: want a multiple of %s, half to one and a half of it away", d, wall, every)
		}
	}
}
