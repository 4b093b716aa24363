package inspect

import "github.com/spf13/cobra"

// Commands returns the commands that examine lists, names and the set.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		checkCommand(), allowCommand(), matchesCommand(), compileCommand(), diffCommand(), digestCommand(), feedsCommand(), heldCommand(),
	}
}

// ServerCommands returns the commands that examine the running server and its settings.
func ServerCommands() []*cobra.Command {
	return []*cobra.Command{statusCommand(), healthcheckCommand(), upstreamsCommand(), settingsCommand(), validateCommand(), clientSetupCommand(), statisticsCommand()}
}
