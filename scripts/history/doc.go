// Package history records what clients on all hosts ask of a running cluster about who holds a job, and what they are answered,
// and judges with porcupine whether it could have come from one copy of the truth that changes at one moment at a time.
package history
