// Command ticker wakes up every 50 ms and does nothing: the least that any Go program costs which beats that often.
package main

import "time"

func main() {
	for range time.Tick(50 * time.Millisecond) {
	}
}
