package inspect

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/running"
	"rempart/internal/local"
)

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the state of the running server", Args: cli.NoArgs,
		Long: `Show the addresses of the running server, its set, its upstreams, the state of its lists, and the problems that keep it from working as configured.
` + running.ClientOnly + `

Exit code: 0, 1 if something is wrong, 2 on an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := running.Client(cmd.Context())
			if err != nil {
				return err
			}
			st, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout()).Encode(st)
			} else {
				err = writeStatus(cmd.OutOrStdout(), &st, time.Now())
			}
			if err == nil && len(st.Problems) > 0 {
				err = cli.Negative
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON object")
	return cmd
}

func writeStatus(out io.Writer, st *local.Status, now time.Time) error {
	var lists feed.Status
	if err := json.Unmarshal(st.Feeds, &lists); err != nil {
		return fmt.Errorf("the running server is of another version: %w", err)
	}
	tw := cli.Table(out)
	line := func(label, format string, args ...any) {
		fmt.Fprintf(tw, "%s\t%s\n", label, fmt.Sprintf(format, args...))
	}
	line("program", "%s, running for %s", st.Version, report.Age(now.Sub(st.Started)))
	line("answers on", "%s", strings.Join(st.Listening, ", "))
	verb, found := "blocking", "of them blocked"
	if st.Mode == "observe" {
		verb, found = "observing", "of them would have been blocked"
	}
	line(verb, "by a set of %s, version %d", report.Count(st.Set.Names, "name"), st.Set.Version)
	if st.Set.Suspended {
		line("", "enforcement is suspended: nothing is blocked")
	}
	line("queries", "%d since the start, %d %s", st.Queries, st.Blocked, found)
	for _, u := range st.Upstreams {
		state := "answers"
		switch {
		case u.Looping:
			state = "forwards back to this server, and is not used"
		case !u.Healthy:
			state = "does not answer"
		case u.Unheard:
			state = "has not answered yet"
		}
		line("upstream", "%s: %s", u.Name, state)
	}
	if c := st.Control; c != nil {
		line("control", "%s: version %d of %d, last contact %s ago", c.URL, c.Version, c.Newest, report.Age(c.Heard))
	}
	for _, l := range lists.Lists {
		line("list", "%s", report.ListLine(l, now))
	}
	for _, p := range slices.Compact(st.Problems) {
		line("problem", "%s", p)
	}
	return tw.Flush()
}

func matchesCommand() *cobra.Command {
	var asJSON bool
	var least uint64
	var limit int
	cmd := &cobra.Command{
		Use: "matches", Short: "Rank the entries of the set by the number of queries they decided", Args: cli.NoArgs,
		Long: `Rank the entries of the set by the number of queries they decided since the start of the server, in observe mode by the number they would have decided. An entry is
a name on a list, never a name from a query. Entries with fewer than ` + fmt.Sprint(report.LeastMatches) + ` queries are not shown, since one person may have sent them. The numbers are kept in memory only.
` + running.ClientOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := running.Client(cmd.Context())
			if err != nil {
				return err
			}
			all, err := client.Matches(cmd.Context(), least)
			if err != nil {
				return err
			}
			if limit > 0 {
				all = all[:min(limit, len(all))]
			}
			if asJSON {
				enc := cli.JSON(cmd.OutOrStdout())
				for _, m := range all {
					if err := enc.Encode(m); err != nil {
						return err
					}
				}
				return nil
			}
			tw := cli.Table(cmd.OutOrStdout())
			for _, m := range all {
				fmt.Fprintf(tw, "%d\t%s\t%s\t%s\n", m.Hits, m.Entry, m.Category, strings.Join(m.Sources, ", "))
			}
			if len(all) == 0 {
				fmt.Fprintf(tw, "no entry decided %d queries or more yet\n", max(least, report.LeastMatches))
			}
			return tw.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per entry")
	cmd.Flags().Uint64Var(&least, "least", report.LeastMatches, "show entries that decided at least so many queries")
	cmd.Flags().IntVar(&limit, "limit", 50, "the maximum number of entries; 0 for all")
	return cmd
}
