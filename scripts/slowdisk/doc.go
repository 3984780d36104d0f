// Package slowdisk is a disk whose fsync takes as long as it is told, or fails: a pass-through file system in user space
// (FUSE) over a folder. The file system is served by a process of its own, the program in the folder server, as a disk is a
// device of its own: a program that looks into a mount that it serves itself can come to wait for itself, in the middle of a fork.
//
// Needs root and /dev/fuse; no fusermount.
package slowdisk
