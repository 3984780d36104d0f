package replica

import "fmt"

// discard is a raft.Logger that keeps nothing. raft calls Panic where it cannot go on, so that still
// panics.
type discard struct{}

func (discard) Debug(...any)            {}
func (discard) Debugf(string, ...any)   {}
func (discard) Info(...any)             {}
func (discard) Infof(string, ...any)    {}
func (discard) Warning(...any)          {}
func (discard) Warningf(string, ...any) {}
func (discard) Error(...any)            {}
func (discard) Errorf(string, ...any)   {}

func (discard) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (discard) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (discard) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (discard) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
