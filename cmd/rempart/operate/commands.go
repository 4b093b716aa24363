package operate

import "github.com/spf13/cobra"

// Commands returns the commands that call the operators' API of a control, or work on its keys and its journal.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		journalCommand(), keysCommand(), tokenCommand(), pushCommand(), unblockCommand(), changesetsCommand(), showCommand(), approveCommand(), undoCommand(),
		advanceCommand(), namesCommand(), logCommand(), auditCommand(), appealsCommand(), nodesCommand(), suspendCommand(), resumeCommand(),
	}
}
