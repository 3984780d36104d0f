// Package audit reads what a job's database kept of its epochs and judges it from outside: no cluster and no daemon is asked, and
// nothing is written. Read collects the rows, Judge is pure and says what they show.
package audit
