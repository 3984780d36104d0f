// Package shim carries the Python program that keeps an Airflow scheduler warm: everything is
// imported, nothing is connected, and it waits for one line to become the scheduler. The package
// writes that program to disk and knows the text lines it speaks; starting, feeding and killing
// the process is the caller's work.
package shim
