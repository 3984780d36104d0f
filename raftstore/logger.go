package raftstore

import (
	"context"
	"fmt"
	"log/slog"
)

// raftLogger is raft's logger on top of slog. raft tells every step of every election at its info
// level, which here is debug; what it panics about, it panics about.
type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any)                   { l.debug("%s", fmt.Sprint(v...)) }
func (l raftLogger) Debugf(format string, v ...any)   { l.debug(format, v...) }
func (l raftLogger) Info(v ...any)                    { l.debug("%s", fmt.Sprint(v...)) }
func (l raftLogger) Infof(format string, v ...any)    { l.debug(format, v...) }
func (l raftLogger) Warning(v ...any)                 { l.log.Warn(fmt.Sprint(v...)) }
func (l raftLogger) Warningf(format string, v ...any) { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l raftLogger) Error(v ...any)                   { l.log.Error(fmt.Sprint(v...)) }
func (l raftLogger) Errorf(format string, v ...any)   { l.log.Error(fmt.Sprintf(format, v...)) }

func (l raftLogger) Fatal(v ...any)                 { l.Panic(v...) }
func (l raftLogger) Fatalf(format string, v ...any) { l.Panicf(format, v...) }
func (l raftLogger) Panic(v ...any)                 { l.Panicf("%s", fmt.Sprint(v...)) }

func (l raftLogger) Panicf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	l.log.Error(text)
	panic(text)
}

// debug spares the formatting when nobody listens: raft says something about every message.
func (l raftLogger) debug(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug(fmt.Sprintf(format, v...))
	}
}
