package operate

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/cmd/rempart/report"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

func logCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "log NAME", Short: "Show every change that ever affected a name", Args: cobra.ExactArgs(1),
		Long: `Show every change that ever affected a name, the oldest first: by whom, why, on whose authority, until when.
` + apiHelp,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, args []string) error {
		var history struct {
			Name string
			Log  []pushapi.LogEntry
			More bool
		}
		raw, err := c.do(cmd.Context(), &apiRequest{method: http.MethodGet, path: "/v1/names/" + url.PathEscape(args[0]) + "/log", again: true, upload: true})
		if err != nil {
			return err
		}
		if err := decodeAnswer(raw, &history); err != nil {
			return err
		}
		if asJSON {
			return writeRaw(cmd.OutOrStdout(), raw)
		}
		var b strings.Builder
		if len(history.Log) == 0 {
			fmt.Fprintf(&b, "no change ever affected %s\n", history.Name)
		}
		for _, e := range history.Log {
			writeLogEntry(&b, &e)
		}
		if history.More {
			fmt.Fprintln(&b, "there are more changes than shown")
		}
		_, err = io.WriteString(cmd.OutOrStdout(), b.String())
		return err
	})
}

// describeAct describes an act on a name: "block a.example phishing". The category is shown for blocks only.
func describeAct(act, name, category, scope string) string {
	words := []string{act, name}
	if act == string(journal.Block) && category != "" {
		words = append(words, category)
	}
	if scope != "" && scope != blocklist.Subtree.String() {
		words = append(words, scope)
	}
	return strings.Join(words, " ")
}

// writeFacts writes the facts with a value, each a label and a value, in a format.
func writeFacts(w io.Writer, format string, facts [][2]string) {
	for _, fact := range facts {
		if fact[1] != "" {
			fmt.Fprintf(w, format, fact[0], fact[1])
		}
	}
}

// momentOrNone returns a time as text; "" for the zero time.
func momentOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return report.Moment(t)
}

// writeLogEntry writes a change of a name: its author in the first line, then the reasons.
func writeLogEntry(w io.Writer, e *pushapi.LogEntry) {
	who := e.By
	if e.List != "" {
		who = "the list " + e.List
	}
	if len(e.Approved) > 0 {
		who += ", approved by " + strings.Join(e.Approved, ", ")
	}
	fmt.Fprintf(w, "version %d, %s, by %s: %s (%s)\n", e.Version, report.Moment(e.Time), who, describeAct(e.Do, e.Name, cmp.Or(e.Category, "malicious"), e.Scope), e.ID)
	if !e.Applied {
		fmt.Fprintln(w, "  refused by a guard: it has no effect")
	}
	ground := e.Mark
	if ground == journal.MarkText(blocklist.Blocked) { // most changes have this ground
		ground = ""
	}
	writeFacts(w, "  %s: %s\n", [][2]string{
		{"why", e.Reason}, {"authority", e.Authority}, {"decision", e.Decision}, {"ground", ground}, {"from", momentOrNone(e.Start)}, {"until", momentOrNone(e.Expiry)},
		{"in", strings.Join(e.Countries, ", ")}, {"with", strings.Join(e.Operators, ", ")}, {"comment", e.Comment},
	})
}

func namesCommand() *cobra.Command {
	return resourceCommand(&cobra.Command{
		Use: "names NAME", Short: "Show what control publishes about a name, and why", Args: cobra.ExactArgs(1),
		Long: `Show the verdict on a name in the set that control publishes, and all claims about it and the names above it. "rempart check" asks the server on this machine.
` + apiHelp,
	}, func(args []string) (string, url.Values) { return "/v1/names/" + url.PathEscape(args[0]), nil }, writeName)
}

func writeName(out io.Writer, info *pushapi.NameInfo) error {
	var b strings.Builder
	verdict := map[string]string{"pass": "passes", "allow": "is allowed", "block": "is blocked"}[info.Verdict]
	fmt.Fprintf(&b, "%s %s, as of version %d\n", info.Name, cmp.Or(verdict, info.Verdict), info.Version)
	for _, claim := range info.Claims {
		writeClaim(&b, &claim)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// writeClaim writes a claim in one line.
func writeClaim(w io.Writer, c *pushapi.Claim) {
	share := ""
	if c.Share > 0 {
		share = fmt.Sprintf("%g %% of the servers", c.Share*100)
	}
	fmt.Fprintf(w, "  %s, by %s", describeAct(c.Does, c.Name, c.Category, c.Scope), strings.Join(c.Sources, ", "))
	writeFacts(w, ", %s %s", [][2]string{
		{"since", momentOrNone(c.Since)}, {"from", momentOrNone(c.Start)}, {"until", momentOrNone(c.Expiry)}, {"decision", c.Decision}, {"change set", c.ChangeSet},
		{"on", share}, {"in", strings.Join(c.Countries, ", ")}, {"with", strings.Join(c.Operators, ", ")},
	})
	if !c.InEffect {
		fmt.Fprint(w, "; not in effect")
	}
	fmt.Fprintln(w)
}
