package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"rempart/internal/units"
)

// DurationFlag adds a flag for a duration, in the notation that settings use, to cmd. Its default is the value at to.
func DurationFlag(cmd *cobra.Command, to *time.Duration, name, usage string) {
	cmd.Flags().Var((*DurationValue)(to), name, usage)
}

// DurationValue is a duration as a pflag.Value.
type DurationValue time.Duration

// Set parses text. It returns an error for a duration below zero.
func (d *DurationValue) Set(text string) error {
	parsed, err := units.ParseDuration(text)
	if err != nil {
		return err
	}
	if parsed < 0 {
		return errors.New("a duration is not below zero")
	}
	*d = DurationValue(parsed)
	return nil
}

func (d *DurationValue) String() string { return time.Duration(*d).String() }
func (d *DurationValue) Type() string   { return "duration" }
