package main

import "github.com/spf13/cobra"

// inspectCommands returns the commands that examine lists, names and the set.
func inspectCommands() []*cobra.Command {
	return []*cobra.Command{
		checkCommand(), allowCommand(), matchesCommand(), compileCommand(), diffCommand(), digestCommand(), feedsCommand(), heldCommand(),
	}
}

// serverCommands returns the commands that examine the running server and its settings.
func serverCommands() []*cobra.Command {
	return []*cobra.Command{statusCommand(), settingsCommand(), validateCommand()}
}
