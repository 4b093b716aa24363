// Command rempart is a DNS protective filter: it answers queries, checks every name against a set of malicious names, and redirects blocked names to a page
// that explains the block.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rempart/cmd/rempart/canary"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/doctor"
	"rempart/cmd/rempart/firstrun"
	"rempart/cmd/rempart/inspect"
	"rempart/cmd/rempart/operate"
	"rempart/cmd/rempart/top"
	"rempart/internal/config"
	"rempart/internal/spelling"
)

func main() { os.Exit(run()) }

// run runs the program and returns its exit code.
func run() int {
	// quic-go writes a warning to standard error if the system limits the buffers of its sockets, which answers of DNS never fill.
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	serve, control := serveCommand(), controlCommand()
	root := &cobra.Command{
		Use:     "rempart",
		Version: cli.Version(),
		Short:   "A DNS protective filter",
		Long: `Rempart is a DNS protective filter: it forwards queries to resolvers you choose, checks every
name against lists of malicious names, and answers a malicious name with the address of a page that explains the block.

Without a subcommand it runs "rempart serve". Settings are environment variables that begin with REMPART_;
"rempart settings --all" lists them.`,
		RunE:          serve.RunE,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddGroup(&cobra.Group{ID: "serve", Title: "Serve:"}, &cobra.Group{ID: "lists", Title: "Examine lists and the set:"}, &cobra.Group{ID: "operate", Title: "Operate a control:"})
	group := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = id
		}
		root.AddCommand(commands...)
	}
	group("serve", append([]*cobra.Command{serve, control}, append(inspect.ServerCommands(), firstrun.Command(), doctor.Command(), top.Command())...)...)
	group("lists", inspect.Commands()...)
	group("operate", append(operate.Commands(), canary.Command())...)
	cli.WithCommands(root, versionCommand())
	root.SetErr(cli.Redact(os.Stderr))
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		refuses := cmd == root || cmd == serve || cmd == control || cmd.Name() == "validate" // a misspelt setting is an error for these commands
		cli.WarnUnknown(cmd, config.Environ(), !refuses)
	}
	root.SetFlagErrorFunc(suggestFlag)
	err := root.ExecuteContext(context.Background())
	code := cli.ExitCode(0)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(cli.Plain(cli.Redact(os.Stderr)), "rempart:", cli.WithAdvice(err))
	return int(cli.Failure)
}

// suggestFlag adds the flag with the nearest name to the error for an unknown flag.
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
	return fmt.Errorf("%s has no flag --%s: see %s --help", cmd.CommandPath(), unknown.GetSpecifiedName(), cmd.CommandPath())
}
