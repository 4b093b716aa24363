package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// signals holds the signals that a command reacts to.
type signals struct {
	Context context.Context  // ends at SIGTERM and SIGINT
	Hangup  <-chan os.Signal // receives SIGHUP
	stop    func()
}

// CatchSignals catches signals from now on, so that a signal that arrives while lists are read ends the command in order. The caller calls Stop last.
func CatchSignals(parent context.Context) *signals {
	ctx, cancel := signal.NotifyContext(parent, syscall.SIGTERM, syscall.SIGINT)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	return &signals{Context: ctx, Hangup: hangup, stop: func() {
		signal.Stop(hangup)
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		cancel()
	}}
}

// Stop stops catching SIGHUP, and makes the program ignore a second SIGTERM or SIGINT, so that it still ends in order.
func (s *signals) Stop() { s.stop() }
