package inspect

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/running"
	"rempart/internal/statistics"
)

func statisticsCommand() *cobra.Command {
	var asJSON, schema bool
	var most int
	cmd := &cobra.Command{
		Use: "statistics", Short: "Print the public statistics of this server", Args: cli.NoArgs,
		Long: `Print the public statistics of the server on this machine as CSV: for each day, the queries, the blocked queries by category, list and policy, and the sizes of the set
and its lists. They contain no queried name and no client. Counts of queries and of appeals are rounded down to multiples of REMPART_STATISTICS; smaller counts are
left empty. The numbers of a day appear when the day is over (UTC).`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if schema {
				_, err := fmt.Fprint(cmd.OutOrStdout(), statistics.Schema)
				return err
			}
			of, err := running.FindUnless(cmd.Context(), true)
			if err != nil {
				return err
			}
			rows, err := statistics.Read(filepath.Join(of.Config.DataDir, statistics.Folder), most)
			if err != nil {
				return fmt.Errorf("reading the statistics failed: %w; run this command as the server's user, or as root", err)
			}
			if asJSON {
				return statistics.WriteJSON(cmd.OutOrStdout(), rows)
			}
			return statistics.WriteCSV(cmd.OutOrStdout(), rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the description of the columns (Table Schema) instead")
	cmd.Flags().IntVar(&most, "days", 30, "the number of days to print, the newest ones")
	return cmd
}
