package airflowctl

import "time"

// Hurry looks after the standby of a job that does not run yet at a pace for tests.
func (j *Job) Hurry(look, calm, retry, retryMax time.Duration) {
	j.pace = pace{every: 10 * time.Millisecond, look: look, calm: calm, retry: retry, retryMax: retryMax}
}

// ReadLine reads a status file that has to belong to uid.
func ReadLine(path string, uid int) (string, error) {
	text, _, err := readLine(path, uid)
	return text, err
}
