// Package units reads durations and sizes as every setting, file and flag of Rempart writes them.
package units

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// errDuration describes the notation of durations.
var errDuration = errors.New("not a duration: write it like 30s, 90m, 12h, 7d or 2w")

const day = 24 * time.Hour

// ParseDuration reads a duration in Go's notation, which may begin with weeks and days of 24 hours: "90m", "36h", "7d", "1w", "1d12h". The error describes
// this notation.
func ParseDuration(text string) (time.Duration, error) {
	rest := strings.TrimSpace(text)
	if rest == "" {
		return 0, errDuration
	}
	var total time.Duration
	for _, unit := range []struct {
		letter string
		size   time.Duration
	}{{"w", 7 * day}, {"d", day}} {
		number, after, ok := strings.Cut(rest, unit.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || !isDigits(number) || n > float64((math.MaxInt64-total)/unit.size) {
			return 0, errDuration
		}
		total += time.Duration(n * float64(unit.size))
		if rest = after; rest == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || total > 0 && (d < 0 || d > math.MaxInt64-total) {
		return 0, errDuration
	}
	return total + d, nil
}

// isDigits reports whether text is a decimal number without sign or exponent.
func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789.") == ""
}

// errBytes describes the notation of sizes.
var errBytes = errors.New("not a size: write it like 67108864, 64M, 64MiB or 64MB")

// ParseBytes reads a number of bytes with or without a unit, in any case: k, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; kB, MB, GB, TB powers of
// 1000. The error describes this notation.
func ParseBytes(text string) (int64, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	number := strings.TrimRight(s, "kmgtib ")
	unit := strings.TrimSpace(s[len(number):])
	factor := int64(1)
	if unit != "" && unit != "b" {
		power := strings.IndexByte("kmgt", unit[0]) + 1
		base := int64(1024)
		switch unit[1:] {
		case "", "ib":
		case "b":
			base = 1000
		default:
			power = 0
		}
		if power == 0 {
			return 0, errBytes
		}
		for range power {
			factor *= base
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, errBytes
	}
	return n * factor, nil
}
