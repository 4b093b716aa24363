package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"rempart/internal/spelling"
)

// WithCommands adds subcommands to cmd, which shows its help if it has no action of its own.
func WithCommands(cmd *cobra.Command, below ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(below...)
	cmd.Args = knownCommand
	if cmd.RunE == nil {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	return cmd
}

// knownCommand returns an error for the arguments of a command that has subcommands: they are mistyped commands.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		names = append(names, c.Name())
	}
	if near := spelling.Nearest(args[0], names); near != "" {
		return fmt.Errorf("there is no command %q: did you mean %s %s?", args[0], cmd.CommandPath(), near)
	}
	return fmt.Errorf("there is no command %q: %s --help lists the commands", args[0], cmd.CommandPath())
}
