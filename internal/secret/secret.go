// Package secret reads the files of secrets that several servers share.
package secret

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// Len is the length of a secret in bytes.
const Len = 16

// Secret is one secret.
type Secret [Len]byte

// Random returns a random secret.
func Random() (s Secret) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// most is the largest number of secrets in a file: each one makes the check of a wrong value longer.
const most = 4

// Parse reads the secrets in the text of a file: one per line, 32 hexadecimal digits each, the one in use first. Empty lines and lines that begin with # are ignored.
// There is at least one secret in the result. The error names a line by its number and never contains a secret.
func Parse(text []byte) ([]Secret, error) {
	var all []Secret
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		raw, err := hex.DecodeString(string(line))
		if err != nil || len(raw) != Len {
			return nil, fmt.Errorf("line %d is not a secret of 32 hexadecimal digits: write the output of \"openssl rand -hex 16\"", number)
		}
		if slices.Contains(all, Secret(raw)) {
			return nil, fmt.Errorf("line %d repeats a secret", number)
		}
		all = append(all, Secret(raw))
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("there is no secret: write the output of \"openssl rand -hex 16\" to the file")
	case len(all) > most:
		return nil, fmt.Errorf("there are %d secrets, and at most %d may be in use: remove the oldest ones", len(all), most)
	}
	return all, nil
}
