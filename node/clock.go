package node

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/duoflow/duoflow/node/control"
)

// bootNow reads CLOCK_BOOTTIME, which unlike Go's own monotonic clock goes on while the host is suspended.
func bootNow() control.Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("node: read CLOCK_BOOTTIME: %v", err)) // every Linux since 2.6.39 has it
	}
	return control.Instant(ts.Nano())
}
