// Command rempart is a DNS protective filter: it answers queries, checks every name against a
// set of malicious ones, and leads a match to a page that says what happened.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rempart/internal/config"
	"rempart/internal/spelling"
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
	serve, control := serveCommand(), controlCommand()
	root := &cobra.Command{
		Use:     "rempart",
		Version: version(),
		Short:   "A DNS protective filter",
		Long: `Rempart is a DNS protective filter: it forwards queries to resolvers you choose, checks every
name against lists of malicious ones, and answers a match with the address of a page that says why.

Without a subcommand it serves. Settings are environment variables that begin with REMPART_;
"rempart settings --all" lists them.`,
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
	group("serve", serve, control, statusCommand(), settingsCommand(), validateCommand())
	group("lists", checkCommand(), allowCommand(), matchesCommand(), compileCommand(), diffCommand(), digestCommand(), feedsCommand(), heldCommand())
	group("operate", journalCommand(), keysCommand(), tokenCommand(), pushCommand(), unblockCommand(), changesetsCommand(), showCommand(), approveCommand(), undoCommand(),
		advanceCommand(), namesCommand(), logCommand(), auditCommand(), nodesCommand(), suspendCommand(), resumeCommand())
	withCommands(root, versionCommand())
	root.SetErr(redacting{os.Stderr})
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		refuses := cmd == root || cmd == serve || cmd == control // to start with a misspelt setting
		warnUnknown(cmd, config.Environ(), !refuses)
	}
	root.SetFlagErrorFunc(suggestFlag)
	err := root.ExecuteContext(context.Background())
	code := exitCode(0)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(redacting{os.Stderr}, "rempart:", err)
	return int(exitFailure)
}

// warnUnknown warns of the variables that have Rempart's prefix and are no settings, and, if so wanted, of misspelt settings.
func warnUnknown(cmd *cobra.Command, environ map[string]string, misspelt bool) {
	near, texts := config.Unknown(environ)
	if misspelt {
		texts = append(near, texts...)
	}
	for _, text := range texts {
		fmt.Fprintln(cmd.ErrOrStderr(), "rempart: ignored:", text)
	}
}

// redacting writes without the passwords and tokens in what it is given, a line or more at a time.
type redacting struct{ w io.Writer }

func (r redacting) Write(p []byte) (int, error) {
	if _, err := io.WriteString(r.w, config.Redact(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// withCommands adds commands below cmd, which shows its help if it does nothing by itself.
func withCommands(cmd *cobra.Command, below ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(below...)
	cmd.Args = knownCommand
	if cmd.RunE == nil {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	return cmd
}

// knownCommand refuses arguments of a command that has commands below it: they are mistyped commands.
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
	return fmt.Errorf("there is no command %q: %s --help lists those that there are", args[0], cmd.CommandPath())
}

// suggestFlag adds the flag that a mistyped one was meant to be.
func suggestFlag(cmd *cobra.Command, err error) error {
	unknown := (*pflag.NotExistError)(nil)
	if !errors.As(err, &unknown) {
		return fmt.Errorf("%w: see %s --help", err, cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := spelling.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Errorf("%s has no flag --%s: did you mean --%s?", cmd.CommandPath(), unknown.GetSpecifiedName(), near)
	}
	return fmt.Errorf("%s has no flag %s: see %s --help", cmd.CommandPath(), unknown.GetSpecifiedName(), cmd.CommandPath())
}
