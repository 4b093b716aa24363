//go:build !linux

package handover

import (
	"errors"
	"log/slog"
	"os"
)

// memory fails: systemd runs on Linux only.
func memory(string) (*os.File, error) { return nil, errors.ErrUnsupported }

// Flush does nothing.
func (s *Store) Flush() {}

// send fails.
func (s *Store) send(string, ...int) error { return errors.ErrUnsupported }

// boundPassed does nothing.
func boundPassed(*slog.Logger) {}
