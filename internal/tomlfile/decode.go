// Package tomlfile decodes the files in TOML that operators write, and the files of texts.
package tomlfile

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/pelletier/go-toml/v2"
)

// MaxSize is the largest size of a file, in bytes.
const MaxSize = 1 << 20

// Decode decodes a file into a struct. A key that no field has is an error, so that a misspelt key is not ignored. Errors name the place in the file.
func Decode(data []byte, into any) error {
	if len(data) > MaxSize {
		return fmt.Errorf("the file has %d bytes, more than %d", len(data), MaxSize)
	}
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if unknown := (*toml.StrictMissingError)(nil); errors.As(err, &unknown) {
		return fmt.Errorf("unknown key:\n%s", unknown.String())
	}
	if wrong := (*toml.DecodeError)(nil); errors.As(err, &wrong) {
		row, column := wrong.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}
