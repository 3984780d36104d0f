// Package hook runs an operator's commands around what happens to a job on this host.
//
// Two are asked and waited for: pre_start, which may veto the start, and pre_stop. The others are told afterwards, in order, one
// after the other, at least once each: an event is on disk before its command runs, and is removed when that has ended well or
// was tried often enough. No command can hold up a fence: nothing is written or waited for before one, and on_fence is told.
//
// A command gets in its environment what happened: DUOFLOW_HOOK, DUOFLOW_EVENT (the same for every try of one event),
// DUOFLOW_JOB, DUOFLOW_NODE, DUOFLOW_EPOCH, and DUOFLOW_CERTAIN, which is no when the daemon ended before it knew whether
// it came to it.
package hook
