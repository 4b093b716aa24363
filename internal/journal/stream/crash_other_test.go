//go:build !linux

package stream

import (
	"os"
	"testing"
)

func freeze(*testing.T, *os.Process, bool) {}
