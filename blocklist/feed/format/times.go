package format

import (
	"bytes"
	"time"
)

// timeOf is a time in Unix seconds: RFC 3339 or near it, a date, or Unix seconds or milliseconds.
// No text is 0, and so is "null". It reports false if the text is neither.
func timeOf(text []byte) (int64, bool) {
	if len(text) == 0 || equalFold(text, "null") || equalFold(text, "none") || string(text) == "0" {
		return 0, true
	}
	if whole, _, _ := bytes.Cut(text, []byte(".")); len(whole) >= 9 && len(whole) <= 13 {
		if n, ok := number(whole); ok {
			if len(whole) == 13 {
				n /= 1000
			}
			return n, len(whole) != 12
		}
	}
	return civilTime(text)
}

// civilTime reads "2006-01-02", then if at all "T15:04:05", a fraction, and a zone; UTC if none.
func civilTime(text []byte) (int64, bool) {
	if len(text) < len("2006-01-02") || len(text) > 40 {
		return 0, false
	}
	shape := "2006-01-02T15:04:05"
	if len(text) < len(shape) {
		shape = shape[:10]
	}
	stamp := []byte(string(text[:len(shape)]))
	if len(stamp) > 10 && stamp[10] == ' ' {
		stamp[10] = 'T'
	}
	at, err := time.Parse(shape, string(stamp))
	if err != nil || at.Unix() <= 0 {
		return 0, false
	}
	rest := text[len(shape):]
	if len(shape) == 10 {
		return at.Unix(), len(rest) == 0
	}
	if len(rest) > 0 && rest[0] == '.' {
		rest = bytes.TrimLeft(rest[1:], "0123456789")
	}
	offset, ok := zoneOffset(trim(rest))
	return at.Unix() - offset, ok
}

// zoneOffset reads "", "Z", "UTC", "+01:00" and "+0100", as seconds east.
func zoneOffset(text []byte) (int64, bool) {
	switch string(text) {
	case "", "Z", "z", "UTC", "GMT", "(UTC)":
		return 0, true
	}
	digits := bytes.ReplaceAll(text[1:], []byte(":"), nil)
	n, ok := number(digits)
	if !ok || len(digits) != 4 || n%100 > 59 || n/100 > 14 {
		return 0, false
	}
	offset := (n/100*60 + n%100) * 60
	switch text[0] {
	case '+':
		return offset, true
	case '-':
		return -offset, true
	}
	return 0, false
}

func number(digits []byte) (int64, bool) {
	if len(digits) == 0 || len(digits) > 13 {
		return 0, false
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}
