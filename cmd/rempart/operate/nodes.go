package operate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/pushapi"
	"rempart/internal/spelling"
)

func nodesCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "nodes", Short: "Show the state of every server",
		Long: `Show the version that is in force on each server that follows this control, and the time since the last report of a server that stopped reporting.
` + apiHelp + `

Exit code: 0 if every server has the newest version, 1 if a server is behind, does not report or has a problem, or if control has a problem, 2 on an
error. To remove a retired server, run "rempart nodes forget".`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, _ []string) error {
		var all struct {
			Version uint64
			Nodes   []pushapi.NodeInfo
			Problem string
		}
		raw, err := c.get(cmd.Context(), "/v1/nodes", nil, &all)
		if err != nil {
			return err
		}
		healthy := all.Problem == ""
		for _, n := range all.Nodes {
			healthy = healthy && n.Behind == 0 && !n.Gone && !n.Awaited && n.Problem == ""
		}
		if asJSON {
			err = writeRaw(cmd.OutOrStdout(), raw)
		} else {
			tw := cli.Table(cmd.OutOrStdout())
			fmt.Fprintf(tw, "newest\tversion %d\n", all.Version)
			if all.Problem != "" {
				fmt.Fprintf(tw, "problem\t%s\n", all.Problem)
			}
			for _, n := range all.Nodes {
				fmt.Fprintf(tw, "%s\tversion %d\t%s\t%d queries, %d blocked\n", n.Node, n.Version, nodeState(&n, time.Now()), n.Queries, n.Blocked)
			}
			err = tw.Flush()
		}
		if err == nil && !healthy {
			err = cli.Negative
		}
		return err
	})
	return cli.WithCommands(cmd, forgetCommand())
}

func forgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "forget NAME", Short: "Forget a server that is retired", Args: cobra.ExactArgs(1),
		Long: `Forget a server, so that neither "rempart nodes" nor --wait waits for it any more. NAME is the name of a server as
"rempart nodes" lists it, or only the part after the slash (the part before the slash is the name of the server's token). With the name of a token, all servers
that report with this token are forgotten. A server that still runs is listed again from its next report: stop the server first, or revoke its token; revoking a
token also forgets its servers.
` + apiHelp,
	}
	return apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, args []string) error {
		var done struct {
			Forgotten int
			Reporting []string
		}
		if _, err := c.post(cmd.Context(), "/v1/nodes/forget", map[string]string{"node": args[0]}, true, &done); err != nil {
			return c.suggestNode(cmd.Context(), args[0], err)
		}
		if len(done.Reporting) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: reported within the last minute: %s. A server that still runs is listed again from its next report: stop the server, or revoke its token "+
				"(rempart token revoke), then forget the server again\n", strings.Join(done.Reporting, ", "))
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "forgotten: %s\n", report.Count(done.Forgotten, "server"))
		return err
	})
}

// suggestNode adds the nearest name to the error for an unknown server.
func (c *apiClient) suggestNode(ctx context.Context, name string, unknown error) error {
	var p *apiProblem
	if !errors.As(unknown, &p) || p.Status != http.StatusNotFound {
		return unknown
	}
	var all struct{ Nodes []pushapi.NodeInfo }
	if _, err := c.get(ctx, "/v1/nodes", nil, &all); err != nil {
		return unknown
	}
	var names []string
	for _, n := range all.Nodes {
		names = append(names, n.Node)
		if token, own, ok := strings.Cut(n.Node, "/"); ok {
			names = append(names, own, token)
		}
	}
	if near := spelling.Nearest(name, names); near != "" {
		return fmt.Errorf("%w; did you mean %q?", unknown, near)
	}
	return unknown
}

func nodeState(n *pushapi.NodeInfo, now time.Time) string {
	var state []string
	switch {
	case n.Gone:
		state = append(state, "no report for "+report.Age(now.Sub(n.Seen)))
	case n.Awaited:
		state = append(state, "has not reported since control started")
	case n.Behind > 0:
		state = append(state, fmt.Sprintf("%d behind", n.Behind))
	case n.Problem == "":
		state = append(state, "up to date")
	}
	if n.Suspended {
		state = append(state, "suspended")
	}
	if n.Problem != "" {
		state = append(state, n.Problem)
	}
	return strings.Join(state, ", ")
}

func suspendCommand() *cobra.Command {
	return enforcementCommand("suspend", "Stop enforcement on every server, at once",
		`The kill switch: within a second every server answers as if nothing were blocked, until "rempart resume". Lists and pushes are still accepted meanwhile.`)
}

func resumeCommand() *cobra.Command {
	return enforcementCommand("resume", "Enforce again, after suspend", `Make every server enforce blocks again.`)
}

// enforcementCommand returns the command suspend or resume.
func enforcementCommand(act, short, long string) *cobra.Command {
	var s receiptFlags
	var reason string
	cmd := &cobra.Command{
		Use: act, Short: short, Args: cli.NoArgs,
		Long: long + "\n" + apiHelp + `

Exit code: 0 if the command is recorded in the journal, 1 if it was not in force everywhere within --wait, 2 on an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.waitDefault(cmd)
			if reason == "" {
				return errors.New("--reason: give a reason; it is recorded in the journal")
			}
			c, err := openAPI(s.tokenFile)
			if err != nil {
				return err
			}
			var done struct {
				Version   uint64
				Suspended bool
			}
			raw, err := c.post(cmd.Context(), "/v1/"+act, map[string]string{"reason": reason}, true, &done)
			if err != nil {
				return err
			}
			if s.asJSON {
				err = writeRaw(cmd.OutOrStdout(), raw)
			} else {
				words := map[bool]string{true: "enforcement is suspended: nothing is blocked", false: "blocks are enforced"}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s, as of version %d\n", words[done.Suspended], done.Version)
			}
			if err != nil {
				return err
			}
			return s.awaitServers(cmd, c, done.Version, nil)
		},
	}
	s.addFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "the reason; it is recorded in the journal")
	return cmd
}
