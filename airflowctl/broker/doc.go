// Package broker gives each epoch of a job a RabbitMQ user of its own, and takes those of older epochs away: a scheduler that was
// fenced in the database can then send no message either. It speaks to RabbitMQ's management API, and knows nothing of the rest.
package broker
