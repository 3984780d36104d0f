// Package roster is who belongs to a raft group: the members with their addresses, those that are to become voters, and those
// that were removed for good. It is pure: a roster is a value, a change makes the next one or says why not, and every node that
// applies the same entry of the log has the same roster. See raftstore/DESIGN.md, "Members".
package roster
