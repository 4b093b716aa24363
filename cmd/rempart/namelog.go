package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

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
