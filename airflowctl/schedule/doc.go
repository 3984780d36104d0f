// Package schedule runs a command at the slots of a schedule instead of all the time. Runner is the main process of such a
// job's life; what it has run is noted in the job's own database, with the rights of its epoch, so that it is fenced
// like everything else a job writes. Which slot is next is decided in Schedule.Decide, which knows no clock.
package schedule
