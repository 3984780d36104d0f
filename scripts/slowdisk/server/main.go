// Command server serves one slow disk, until its standard input ends: see package slowdisk.
package main

import (
	"fmt"
	"os"

	"github.com/duoflow/duoflow/scripts/slowdisk"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: server FOLDER MOUNTPOINT")
		os.Exit(2)
	}
	if err := slowdisk.Serve(os.Args[1], os.Args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}
