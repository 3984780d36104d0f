// Command robustness hurts a real duoflow cluster in every way that its lists of troubles name, alone and in pairs, at
// instants and for times that a seed decides, and judges what comes of it from the outside: the order of commits is read from
// Postgres's log, what was acknowledged from the journals of those who write. Thieves write with every epoch's stolen
// credentials all the while. What a run has seen is kept in a folder, and `robustness check` judges it again.
package main
