package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"
)

// serverLog forwards the server's log lines. It stores the fatal error, after which the server expects its process to exit, and the first error of the
// operating system in the log: the server returns a failed write to no caller.
type serverLog struct {
	log *slog.Logger

	mu        sync.Mutex
	systemErr error // the first error of the operating system
	fatalErr  error
	minute    time.Time
	warnings  int // in that minute
}

// maxWarnings bounds the logged warnings per minute, because each message of a node may cause one.
const maxWarnings = 30

func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fatalErr
}

func (l *serverLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }

// systemError returns the first error of the operating system that the server logged; nil if there is none.
func (l *serverLog) systemError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.systemErr
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.line(slog.LevelWarn, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, arg := range v {
		if err, ok := arg.(error); ok && l.systemErr == nil && errors.As(err, new(syscall.Errno)) {
			l.systemErr = err
		}
	}
}

func (l *serverLog) Fatalf(format string, v ...any) {
	l.line(slog.LevelWarn, format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatalErr == nil {
		l.fatalErr = fmt.Errorf(format, v...)
	}
}

func (l *serverLog) line(level slog.Level, format string, v []any) {
	if !l.log.Enabled(context.Background(), level) || level >= slog.LevelWarn && !l.mayWarn() {
		return
	}
	l.log.Log(context.Background(), level, "journal's server: "+strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// mayWarn counts a warning and reports whether it may be logged.
func (l *serverLog) mayWarn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.minute) >= time.Minute {
		l.minute, l.warnings = now, 0
	}
	l.warnings++
	if l.warnings == maxWarnings {
		l.log.Warn("journal's server: further warnings are not logged for up to a minute")
	}
	return l.warnings < maxWarnings
}

// isFullDisk reports whether the error means that a disk is full or a quota is exhausted.
func isFullDisk(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
