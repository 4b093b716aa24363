package operate

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/appeal"
	"rempart/internal/pushapi"
)

func appealsCommand() *cobra.Command {
	var asJSON, byList bool
	var state string
	var limit int
	cmd := &cobra.Command{
		Use: "appeals", Short: "List the public's requests for a review of a block, the oldest first",
		Long: `List the appeals: requests of the public for a review of a block. With --state open, list the appeals that wait for a decision; with --state second,
the appeals whose decision a second person must confirm. With --lists, show instead for each list how many appeals against its blocks were upheld: a list with
many is often wrong.

The commands below decide an appeal. An upheld appeal becomes a change set that withdraws the operators' block of exactly this name, or else allows the name.
` + apiHelp + `

Exit code: 0 if no answer is overdue, 1 if one is, 2 on an error.`,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&byList, "lists", false, "show the number of upheld appeals by list instead")
	cmd.Flags().StringVar(&state, "state", "", "only appeals in this state: open, second, upheld or rejected")
	cmd.Flags().IntVar(&limit, "limit", 100, "the maximum number of appeals, up to 1000")
	apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, _ []string) error {
		var all struct {
			Appeals []pushapi.Appeal
			More    bool
			Upheld  map[string]int `json:"upheld_by_list"`
		}
		raw, err := c.get(cmd.Context(), "/v1/appeals", listQuery(limit, state), &all)
		if err != nil {
			return err
		}
		switch {
		case asJSON:
			err = writeRaw(cmd.OutOrStdout(), raw)
		case byList:
			err = writeUpheld(cmd.OutOrStdout(), all.Upheld)
		default:
			err = writeAppeals(cmd.OutOrStdout(), all.Appeals)
		}
		if err == nil && all.More {
			fmt.Fprintf(cmd.ErrOrStderr(), "there are more appeals: --limit shows more of them\n")
		}
		if err == nil && slices.ContainsFunc(all.Appeals, func(a pushapi.Appeal) bool { return a.Overdue }) {
			err = cli.Negative
		}
		return err
	})
	return cli.WithCommands(cmd, showAppealCommand(), decideCommand(appeal.Uphold), decideCommand(appeal.Reject), confirmCommand())
}

func writeAppeals(out io.Writer, all []pushapi.Appeal) error {
	tw := cli.Table(out)
	for _, a := range all {
		due := "answer due " + report.Moment(a.Due)
		if a.Overdue {
			due = "OVERDUE since " + report.Moment(a.Due)
		}
		if a.State.IsDecided() {
			due = "decided " + report.Moment(a.Decided)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", a.Number, a.State, a.Name, blockers(&a), due)
	}
	return tw.Flush()
}

// blockers returns who blocked the name of an appeal.
func blockers(a *pushapi.Appeal) string {
	all := slices.Clone(a.Block.Lists)
	if a.Block.Operator {
		all = append([]string{"operators"}, all...)
	}
	if a.Block.Decision != "" {
		all = append(all, "decision "+a.Block.Decision)
	}
	return strings.Join(all, ", ")
}

func writeUpheld(out io.Writer, upheld map[string]int) error {
	lists := make([]string, 0, len(upheld))
	for list := range upheld {
		lists = append(lists, list)
	}
	slices.SortFunc(lists, func(x, y string) int {
		if upheld[x] != upheld[y] {
			return upheld[y] - upheld[x]
		}
		return strings.Compare(x, y)
	})
	tw := cli.Table(out)
	for _, list := range lists {
		fmt.Fprintf(tw, "%s\t%d upheld\n", list, upheld[list])
	}
	return tw.Flush()
}

func showAppealCommand() *cobra.Command {
	return resourceCommand(&cobra.Command{
		Use: "show NUMBER", Short: "Show an appeal", Args: cobra.ExactArgs(1),
		Long: `Show an appeal: the text of the appellant, the block of the name at that time, and the decision.
` + apiHelp,
	}, func(args []string) (string, url.Values) { return appealPath(args[0]), nil }, writeAppeal)
}

func appealPath(number string) string { return "/v1/appeals/" + url.PathEscape(number) }

// writeAppeal writes an appeal for a reviewer. Text of the appellant is quoted, so that it cannot change the terminal.
func writeAppeal(out io.Writer, a *pushapi.Appeal) error {
	who := "a visitor"
	if a.Owner {
		who = "claims to be responsible for the site"
	}
	if a.Proved {
		who += ", and proved to control the name"
	}
	version := ""
	if a.Version > 0 {
		version = strconv.FormatUint(a.Version, 10)
	}
	email := ""
	if a.Email != "" {
		email = strconv.Quote(a.Email)
	}
	note := ""
	if a.Note != "" {
		note = strconv.Quote(a.Note)
	}
	tw := cli.Table(out)
	fmt.Fprintf(tw, "%s\t%s\n", a.Number, a.State)
	writeFacts(tw, "  %s\t%s\n", [][2]string{
		{"name", a.Name}, {"entry", a.Block.Entry}, {"redirects to", a.Block.Target}, {"category", a.Block.Category}, {"legal ground", a.Block.Mark}, {"blocked by", blockers(a)},
		{"appellant", who}, {"language", a.Language}, {"e-mail", email}, {"reason", strconv.Quote(a.Reason)}, {"filed", report.Moment(a.Filed)}, {"answer due", report.Moment(a.Due)},
		{"suspended by", a.Suspension}, {"decision", string(a.Outcome)}, {"because", string(a.Why)}, {"note", note}, {"reviewer", a.Reviewer},
		{"confirmed by", a.Second}, {"decided", momentOrNone(a.Decided)}, {"change set", a.ChangeSet}, {"version", version},
	})
	return tw.Flush()
}

// decideCommand returns the command that upholds or rejects an appeal.
func decideCommand(outcome appeal.Outcome) *cobra.Command {
	var why, note string
	use, short, reasons := "uphold", "Uphold an appeal: the name passes", "safe or repaired"
	if outcome == appeal.Reject {
		use, short, reasons = "reject", "Reject an appeal: the block stays", "dangerous, authority (only the authority that ordered the block can lift it) or unclear"
	}
	cmd := &cobra.Command{
		Use: use + " NUMBER", Short: short, Args: cobra.ExactArgs(1),
		Long: short + `. The portal shows the reason in the appellant's language. If the file of REMPART_APPEALS demands it, by default for external orders, a second person
must confirm the decision with "rempart appeals confirm".
` + apiHelp,
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason: "+reasons)
	cmd.Flags().StringVar(&note, "note", "", "a text for the appellant, in addition to the reason")
	if err := cmd.MarkFlagRequired("why"); err != nil {
		panic(err) // the flag is defined above
	}
	return apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, args []string) error {
		var a pushapi.Appeal
		body := map[string]string{"outcome": string(outcome), "why": why, "note": note}
		if _, err := c.post(cmd.Context(), appealPath(args[0])+"/decision", body, true, &a); err != nil {
			return err
		}
		return writeDecision(cmd.OutOrStdout(), &a)
	})
}

func confirmCommand() *cobra.Command {
	var outcome string
	cmd := &cobra.Command{
		Use: "confirm NUMBER", Short: "Confirm another person's decision about an appeal", Args: cobra.ExactArgs(1),
		Long: `Confirm the decision of another person about an appeal, so that it takes effect. The person who decided cannot confirm the decision. Read the
decision with "rempart appeals show", and repeat its outcome with --outcome: if the decision has another outcome by now, the command confirms nothing.
` + apiHelp,
	}
	cmd.Flags().StringVar(&outcome, "outcome", "", "the outcome of the decision that you confirm: upheld or rejected")
	if err := cmd.MarkFlagRequired("outcome"); err != nil {
		panic(err) // the flag is defined above
	}
	return apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, args []string) error {
		var a pushapi.Appeal
		if _, err := c.get(cmd.Context(), appealPath(args[0]), nil, &a); err != nil {
			return err
		}
		body := map[string]string{"outcome": outcome, "why": string(a.Why)}
		if _, err := c.post(cmd.Context(), appealPath(args[0])+"/confirmation", body, true, &a); err != nil {
			return err
		}
		return writeDecision(cmd.OutOrStdout(), &a)
	})
}

// writeDecision writes the effect of a decision.
func writeDecision(out io.Writer, a *pushapi.Appeal) error {
	text := "rejected: the block stays"
	switch {
	case a.State == appeal.Second:
		text = fmt.Sprintf("needs confirmation by a second person: review it with \"rempart appeals show %s\", then run \"rempart appeals confirm %s --outcome %s\"", a.Number, a.Number, a.Outcome)
	case a.State == appeal.Upheld && a.ChangeSet == "":
		text = "upheld: control publishes the change set as soon as it can"
	case a.State == appeal.Upheld && a.Version == 0:
		text = fmt.Sprintf("upheld: the change set %s needs approval by a second person: run \"rempart show %s\"", a.ChangeSet, a.ChangeSet)
	case a.State == appeal.Upheld:
		text = fmt.Sprintf("upheld: the change set %s is version %d", a.ChangeSet, a.Version)
	}
	_, err := fmt.Fprintf(out, "%s  %s  %s\n", a.Number, a.Name, text)
	return err
}
