package operate

import (
	"io"
	"net/url"

	"github.com/spf13/cobra"
)

// apiCommand makes cmd a command that calls the API. run receives the client for the settings in the environment and --token-file.
func apiCommand(cmd *cobra.Command, run func(cmd *cobra.Command, c *apiClient, args []string) error) *cobra.Command {
	var tokenFile string
	tokenFlag(cmd, &tokenFile)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := openAPI(tokenFile)
		if err != nil {
			return err
		}
		return run(cmd, c, args)
	}
	return cmd
}

// resourceCommand makes cmd a command that gets a resource of the API and writes it: with --json as received, otherwise by write.
func resourceCommand[T any](cmd *cobra.Command, resource func(args []string) (path string, query url.Values), write func(out io.Writer, resource *T) error) *cobra.Command {
	asJSON := cmd.Flags().Bool("json", false, "as JSON")
	return apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, args []string) error {
		path, query := resource(args)
		var got T
		raw, err := c.get(cmd.Context(), path, query, &got)
		if err != nil {
			return err
		}
		if *asJSON {
			return writeRaw(cmd.OutOrStdout(), raw)
		}
		return write(cmd.OutOrStdout(), &got)
	})
}
