package main

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
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

func logCommand() *cobra.Command {
	var asJSON bool
	var tokenFile string
	cmd := &cobra.Command{
		Use: "log NAME", Short: "Say every change that ever touched a name", Args: cobra.ExactArgs(1),
		Long: `Say every change that ever touched a name, the oldest first: by whom, why, on whose authority, until when.
` + apiHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openAPI(tokenFile)
			if err != nil {
				return err
			}
			var told struct {
				Name string
				Log  []pushapi.LogEntry
				More bool
			}
			raw, err := c.do(cmd.Context(), &call{method: http.MethodGet, path: "/v1/names/" + url.PathEscape(args[0]) + "/log", again: true, upload: true})
			if err == nil {
				err = decodeAnswer(raw, &told)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return writeRaw(cmd.OutOrStdout(), raw)
			}
			var b strings.Builder
			if len(told.Log) == 0 {
				fmt.Fprintf(&b, "no change ever touched %s\n", told.Name)
			}
			for _, e := range told.Log {
				writeLogEntry(&b, &e)
			}
			if told.More {
				fmt.Fprintln(&b, "there is more than is told")
			}
			_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			return err
		},
	}
	tokenFlag(cmd, &tokenFile)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// writeLogEntry says who did what, then why.
func writeLogEntry(w io.Writer, e *pushapi.LogEntry) {
	words := []string{e.Do, e.Name}
	if e.Do == string(journal.Block) {
		words = append(words, cmp.Or(e.Category, "malicious"))
	}
	if e.Scope != "" && e.Scope != "subtree" {
		words = append(words, e.Scope)
	}
	who := e.By
	if e.List != "" {
		who = "the list " + e.List
	}
	if len(e.Approved) > 0 {
		who += ", approved by " + strings.Join(e.Approved, ", ")
	}
	fmt.Fprintf(w, "version %d, %s, by %s: %s (%s)\n", e.Version, moment(e.Time), who, strings.Join(words, " "), e.ID)
	if !e.Counts {
		fmt.Fprintln(w, "  refused by a guard: it does not count")
	}
	ground, start, expiry := e.Mark, "", ""
	if ground == journal.MarkText(blocklist.Blocked) { // most are
		ground = ""
	}
	if !e.Start.IsZero() {
		start = moment(e.Start)
	}
	if !e.Expiry.IsZero() {
		expiry = moment(e.Expiry)
	}
	for _, fact := range [][2]string{
		{"why", e.Reason}, {"authority", e.Authority}, {"decision", e.Decision}, {"ground", ground}, {"from", start}, {"until", expiry},
		{"in", strings.Join(e.Countries, ", ")}, {"with", strings.Join(e.Operators, ", ")}, {"comment", e.Comment},
	} {
		if fact[1] != "" {
			fmt.Fprintf(w, "  %s: %s\n", fact[0], fact[1])
		}
	}
}

func namesCommand() *cobra.Command {
	var asJSON bool
	var tokenFile string
	cmd := &cobra.Command{
		Use: "names NAME", Short: "Show what control publishes about a name, and why", Args: cobra.ExactArgs(1),
		Long: `Show the verdict on a name in the set that control publishes, and all claims about it and the names above it. "rempart check" asks the server on this machine.
` + apiHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openAPI(tokenFile)
			if err != nil {
				return err
			}
			var info pushapi.NameInfo
			raw, err := c.get(cmd.Context(), "/v1/names/"+url.PathEscape(args[0]), nil, &info)
			if err != nil {
				return err
			}
			if asJSON {
				return writeRaw(cmd.OutOrStdout(), raw)
			}
			var b strings.Builder
			verdict := map[string]string{"pass": "passes", "allow": "is allowed", "block": "is blocked"}[info.Verdict]
			fmt.Fprintf(&b, "%s %s, as of version %d\n", info.Name, cmp.Or(verdict, info.Verdict), info.Version)
			for _, claim := range info.Claims {
				writeClaim(&b, &claim)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			return err
		},
	}
	tokenFlag(cmd, &tokenFile)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// writeClaim writes a claim in one line.
func writeClaim(w io.Writer, c *pushapi.Claim) {
	words := []string{c.Does, c.Name}
	if c.Does == string(journal.Block) && c.Category != "" {
		words = append(words, c.Category)
	}
	if c.Scope != "" && c.Scope != blocklist.Subtree.String() {
		words = append(words, c.Scope)
	}
	fmt.Fprintf(w, "  %s, by %s", strings.Join(words, " "), strings.Join(c.Sources, ", "))
	day := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return moment(t)
	}
	share := ""
	if c.Share > 0 {
		share = fmt.Sprintf("%g %% of the servers", c.Share*100)
	}
	for _, fact := range [][2]string{
		{"since", day(c.Since)}, {"from", day(c.Start)}, {"until", day(c.Expiry)}, {"decision", c.Decision}, {"change set", c.ChangeSet},
		{"on", share}, {"in", strings.Join(c.Countries, ", ")}, {"with", strings.Join(c.Operators, ", ")},
	} {
		if fact[1] != "" {
			fmt.Fprintf(w, ", %s %s", fact[0], fact[1])
		}
	}
	if !c.Counts {
		fmt.Fprint(w, "; not in effect")
	}
	fmt.Fprintln(w)
}
