//go:build !linux

package stream

import "math"

// space is unknown on other systems: a full disk shows where it is met.
func space(string) (free, total uint64, err error) { return math.MaxUint64, math.MaxUint64, nil }
