// Command rempart is a DNS protective filter: it answers queries, checks every name against a
// set of malicious ones, and leads a match to a page that says what happened.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

// exitCode is an error whose message, if it has one, was already said.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Exit codes that scripts can trust.
const (
	exitBlocked exitCode = 1 // of check
	exitDiffers exitCode = 1 // of diff
	exitFailure exitCode = 2
)

// run is the whole program but for the exit.
func run() int {
	serve := serveCommand()
	root := &cobra.Command{
		Use:     "rempart",
		Version: version(),
		Short:   "A DNS protective filter",
		Long: `Rempart is a DNS protective filter: it forwards queries to resolvers you choose, checks every
name against lists of malicious ones, and answers a match with the address of a page that says why.

Without a subcommand it serves. Settings are environment variables that begin with REMPART_;
the README has the table.`,
		Args:          cobra.NoArgs,
		RunE:          serve.RunE,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddGroup(&cobra.Group{ID: "serve", Title: "Serve:"}, &cobra.Group{ID: "lists", Title: "Ask about lists:"}, &cobra.Group{ID: "operate", Title: "Operate a control:"})
	group := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
		}
		root.AddCommand(commands...)
	}
	group("serve", serve, controlCommand())
	group("lists", checkCommand(), compileCommand(), diffCommand(), digestCommand(), feedsCommand(), heldCommand())
	group("operate", keysCommand(), tokenCommand(), pushCommand(), unblockCommand(), changesetsCommand(), showCommand(), approveCommand(), undoCommand(),
		logCommand(), nodesCommand(), suspendCommand(), resumeCommand())
	root.AddCommand(versionCommand())
	err := root.ExecuteContext(context.Background())
	code := exitCode(0)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(os.Stderr, "rempart:", err)
	return int(exitFailure)
}
