package inspect

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist/feed"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
)

func feedsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "feeds",
		Short: "Show the state of each list and feed",
		Long: `Show for each list and feed when it was last fetched, how many entries it has in the set, and its last error. SKIPPED is the
number of its lines that were not understood, GUARDS the number of its listings that the guards refused or hold.
` + readsOnly + `

Exit code: 0, or 2 if a list could not be fetched or read, or on another error.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := openInspection(cmd)
			if err != nil {
				return err
			}
			in.warnNone(cmd, "there are the built-in names only")
			if asJSON {
				err = in.feedsJSON(cmd.OutOrStdout())
			} else {
				err = in.feedsTable(cmd.OutOrStdout(), time.Now())
			}
			if err != nil {
				return err
			}
			return in.exitCode()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per list, then one for the set")
	return cmd
}

// nameWidth is the width of the column of names; a longer name is on a line of its own.
const nameWidth = 36

func (in *inspection) feedsTable(out io.Writer, now time.Time) error {
	var b strings.Builder
	row := func(name, fetched, age, entries, skipped, guarded, result string) {
		if len(name) > nameWidth {
			fmt.Fprintln(&b, name)
			name = ""
		}
		fmt.Fprintf(&b, "%-*s  %-16s  %4s  %9s  %8s  %7s  %s\n", nameWidth, name, fetched, age, entries, skipped, guarded, result)
	}
	if len(in.status.Lists) > 0 {
		row("LIST", "FETCHED (UTC)", "AGE", "ENTRIES", "SKIPPED", "GUARDS", "RESULT")
	}
	for _, l := range in.status.Lists {
		fetched, old := "never", ""
		if !l.Fetched.IsZero() {
			fetched, old = l.Fetched.UTC().Format("2006-01-02 15:04"), shortAge(now.Sub(l.Fetched))
		}
		row(l.Name, fetched, old, fmt.Sprint(l.Entries), fmt.Sprint(report.Total(l.Refused)), fmt.Sprint(report.Total(l.Held)), resultOf(l))
		for _, line := range feedDetails(l) {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	if len(in.status.Lists) > 0 {
		fmt.Fprintln(&b)
	}
	fmt.Fprintf(&b, "%s, version %d\n", report.Count(in.status.Names, "name"), in.status.Version)
	if in.Config.Control != "" {
		fmt.Fprintln(&b, "these lists apply to this server only; all other names arrive from control: \"rempart status\" shows the whole set")
	}
	_, err := io.WriteString(cli.Plain(out), b.String())
	return err
}

func resultOf(l feed.ListStatus) string {
	if l.TooOld {
		return "too old"
	}
	return string(l.Result)
}

// guardWords replaces the names of outcomes by words.
var guardWords = strings.NewReplacer(" "+guard.Refuse.String()+" ", " refused by ", " "+guard.Hold.String()+" ", " held by ")

// feedDetails returns the settings of a list, its refused and held listings, and its last error.
func feedDetails(l feed.ListStatus) (lines []string) {
	asked := []string{string(l.Kind)}
	if l.Kind != feed.KindAllow {
		asked = append(asked, string(formatOf(l)), l.Feed.Category.String())
	}
	if l.Feed.Policy == feed.PolicyBlock {
		asked = append(asked, "policy block")
	}
	if l.Feed.Weight > 0 {
		asked = append(asked, fmt.Sprintf("weight %d", l.Feed.Weight))
	}
	if l.Feed.Quorum > 0 {
		asked = append(asked, fmt.Sprintf("quorum %d", l.Feed.Quorum))
	}
	if l.Feed.Licence != "" {
		asked = append(asked, "licence "+l.Feed.Licence)
	}
	lines = append(lines, strings.Join(asked, ", "))
	if len(l.Refused) > 0 {
		lines = append(lines, "not understood: "+countsText(l.Refused))
	}
	if len(l.Held) > 0 {
		lines = append(lines, "guards: "+guardWords.Replace(countsText(l.Held)))
	}
	switch {
	case l.TooOld:
		lines = append(lines, fmt.Sprintf("it has no effect: it could not be renewed for longer than its max_age, %s", l.Feed.MaxAge))
	case l.Err == "" && isMissing(l):
		lines = append(lines, missingReason(l))
	}
	if l.Err != "" {
		lines = append(lines, l.Err)
	}
	return lines
}

// listJSON is the output for one list.
type listJSON struct {
	List     string         `json:"list"`
	Kind     feed.Kind      `json:"kind"`
	Format   format.Format  `json:"format,omitempty"`
	Category string         `json:"category,omitempty"`
	Policy   feed.Policy    `json:"policy,omitempty"`
	Weight   int            `json:"weight,omitempty"`
	Quorum   int            `json:"quorum,omitempty"`
	Licence  string         `json:"licence,omitempty"`
	Fetched  *time.Time     `json:"fetched,omitempty"`
	Entries  int            `json:"entries"`
	Refused  map[string]int `json:"refused,omitempty"` // lines, by reason
	Held     map[string]int `json:"held,omitempty"`    // listings, by outcome and guard
	Result   feed.Result    `json:"result"`
	TooOld   bool           `json:"too_old,omitempty"`
	Error    string         `json:"error,omitempty"`
}

// setJSON is the output for the set.
type setJSON struct {
	Version uint64 `json:"version"`
	Names   int    `json:"names"`
}

func (in *inspection) feedsJSON(out io.Writer) error {
	enc := cli.JSON(out)
	for _, l := range in.status.Lists {
		j := listJSON{
			List: l.Name, Kind: l.Kind, Policy: l.Feed.Policy, Weight: l.Feed.Weight, Quorum: l.Feed.Quorum, Licence: l.Feed.Licence,
			Entries: l.Entries, Refused: l.Refused, Held: l.Held, Result: l.Result, TooOld: l.TooOld, Error: l.Err,
		}
		if l.Kind != feed.KindAllow {
			j.Format, j.Category = formatOf(l), l.Feed.Category.String()
		}
		if !l.Fetched.IsZero() {
			fetched := l.Fetched.UTC().Truncate(time.Second)
			j.Fetched = &fetched
		}
		if err := enc.Encode(j); err != nil {
			return err
		}
	}
	return enc.Encode(setJSON{in.status.Version, in.status.Names})
}

func formatOf(l feed.ListStatus) format.Format {
	if l.Feed.Format == "" {
		return format.Auto
	}
	return l.Feed.Format
}

// countsText returns the keys with their numbers, the largest number first.
func countsText(m map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%d %s", m[k], k)
	}
	return strings.Join(keys, ", ")
}

// shortAge returns a duration for a column.
func shortAge(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d/time.Second)))
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}
