package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"rempart/internal/units"
)

// durationFlag adds a flag for a duration, in the notation that settings use, to cmd. Its default is the value at to.
func durationFlag(cmd *cobra.Command, to *time.Duration, name, usage string) {
	cmd.Flags().Var((*durationValue)(to), name, usage)
}

// durationValue is a duration as a pflag.Value.
type durationValue time.Duration

// Set reads text. A duration below zero is refused.
func (d *durationValue) Set(text string) error {
	parsed, err := units.ParseDuration(text)
	if err != nil {
		return err
	}
	if parsed < 0 {
		return errors.New("a duration is not below zero")
	}
	*d = durationValue(parsed)
	return nil
}

func (d *durationValue) String() string { return time.Duration(*d).String() }
func (d *durationValue) Type() string   { return "duration" }
