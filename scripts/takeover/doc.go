// Package takeover is what the demo, versus and the benchmark have in common: a laboratory with the real Airflow, the
// ways to have a scheduler run in it, faults that are aimed at the bad moment, and Postgres's own notes of who queued
// what and when. It measures and judges nothing of its own.
package takeover
