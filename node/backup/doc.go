// Package backup is what is kept of a cluster outside of it: the agreed state in a file, and how another life of the cluster begins
// with it. It knows no clock and no network, and nothing but Read and Write knows a disk.
//
// A backup holds no permission. What an epoch may do is the fence's to say; a state that is a week old names an old epoch, and the life
// that begins with it is told to leave all of those behind.
package backup
