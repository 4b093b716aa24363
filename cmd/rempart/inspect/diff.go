package inspect

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
)

func diffCommand() *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "diff [OLD [NEW]]",
		Short: "Show how two states of the set differ",
		Long: `Compare two states of the set, name by name, and show the popular names that only the second one blocks. OLD and NEW
are snapshots that "rempart compile" wrote. NEW is by default the set that the server would compile from the configured
lists now, OLD the set in the data folder.
` + readsOnly + `

"+" marks a name that is added, "-" one that is removed, "~" one whose entries change.

Exit code: 0 if the states are equal, 1 if they differ, 2 on an error, for example if a list could not be fetched or read.`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return errors.New("--limit is the number of names to show, 0 for all")
			}
			if asJSON && !cmd.Flags().Changed("limit") {
				limit = 0
			}
			var snapshots []*string
			for i := range args {
				if _, err := os.Stat(args[i]); err != nil {
					return err
				}
				snapshots = append(snapshots, &args[i])
			}
			in, err := prepareInspection(cmd, len(args) == 2, snapshots...)
			if err != nil {
				return err
			}
			pair, err := in.states(cmd, args)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			d := &comparison{inspection: in, out: out, limit: limit, setPair: pair, byList: map[string]*listChange{}}
			if asJSON {
				d.enc = cli.JSON(out)
			}
			if err := errors.Join(d.run(time.Now()), out.Flush()); err != nil {
				return err
			}
			if in.partial {
				return cli.Failure
			}
			if d.Added+d.Removed+d.Changed > 0 {
				return cli.Negative
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per change, all of them unless --limit is given, then a summary")
	cmd.Flags().IntVar(&limit, "limit", 20, "the maximum number of added, of removed and of changed names to show; 0 for all")
	return cmd
}

// setPair holds the two states that are compared.
type setPair struct{ before, after *blocklist.View }

// states opens the two states that the command line names.
func (in *inspection) states(cmd *cobra.Command, args []string) (pair setPair, err error) {
	if len(args) > 0 {
		pair.before, err = feed.OpenSnapshot(args[0])
	} else if pair.before, err = in.lists.Kept(); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("there is no set in the data folder %s yet; name a snapshot to compare with", in.Config.DataDir)
	}
	if err != nil {
		return pair, err
	}
	if len(args) == 2 {
		pair.after, err = feed.OpenSnapshot(args[1])
		return pair, err
	}
	if err := in.start(cmd); err != nil {
		return pair, err
	}
	in.warn(cmd, "sets are compared")
	pair.after, err = in.view()
	return pair, err
}

// comparison writes differences between two sets, and counts them.
type comparison struct {
	*inspection
	out   io.Writer
	enc   *json.Encoder // nil for text
	limit int
	setPair
	byList map[string]*listChange

	Added, Removed, Changed, Popular int
}

// listChange is the number of entries that a list added and removed.
type listChange struct {
	Added   int `json:"added"`
	Removed int `json:"removed"`
}

// changeJSON is one change of a name.
type changeJSON struct {
	Change string      `json:"change"` // added, removed, changed
	Name   string      `json:"name"`
	Before []entryJSON `json:"before,omitempty"`
	After  []entryJSON `json:"after,omitempty"`
}

// popularJSON is one popular name that would be blocked.
type popularJSON struct {
	Change   string   `json:"change"` // popular
	Name     string   `json:"name"`
	Rank     int      `json:"rank"`
	Entry    string   `json:"entry"`
	Scope    string   `json:"scope"`
	Category string   `json:"category"`
	Lists    []string `json:"lists"`
}

// diffSummary is the last object of the output with --json.
type diffSummary struct {
	Old     setJSON                `json:"old"`
	New     setJSON                `json:"new"`
	Added   int                    `json:"added"`
	Removed int                    `json:"removed"`
	Changed int                    `json:"changed"`
	Popular int                    `json:"popular"`
	Lists   map[string]*listChange `json:"lists"`
}

func (d *comparison) run(now time.Time) error {
	if err := feed.Compare(d.before, d.after, d.writeDifference); err != nil {
		return err
	}
	if err := d.lists.Guards().EachPopular(func(rank int, name []byte) error { return d.writePopular(rank, name, now) }); err != nil {
		return err
	}
	return d.writeSummary()
}

// writeDifference writes one difference, up to the limit for its kind.
func (d *comparison) writeDifference(diff feed.Difference) error {
	says, said := diff.Lists()
	for _, list := range says {
		d.changeOf(list).Added++
	}
	for _, list := range said {
		d.changeOf(list).Removed++
	}
	kind, sign, n := "changed", "~", &d.Changed
	switch {
	case len(diff.Before) == 0:
		kind, sign, n = "added", "+", &d.Added
	case len(diff.After) == 0:
		kind, sign, n = "removed", "-", &d.Removed
	}
	if *n++; d.limit > 0 && *n > d.limit {
		return nil
	}
	before, after := describeEntries(diff.Before), describeEntries(diff.After)
	if d.enc != nil {
		return d.enc.Encode(changeJSON{kind, diff.Name, before, after})
	}
	text := joinEntries(before) + " -> " + joinEntries(after)
	if kind != "changed" {
		text = joinEntries(append(before, after...))
	}
	_, err := fmt.Fprintf(d.out, "%s %s: %s\n", sign, diff.Name, text)
	return err
}

func joinEntries(claims []entryJSON) string {
	var texts []string
	for _, c := range claims {
		texts = append(texts, c.String())
	}
	return strings.Join(texts, "; ")
}

func (d *comparison) changeOf(list string) *listChange {
	if d.byList[list] == nil {
		d.byList[list] = &listChange{}
	}
	return d.byList[list]
}

// writePopular writes a name of the popularity list if it would be newly blocked.
func (d *comparison) writePopular(rank int, name []byte, now time.Time) error {
	verdict := d.after.Match(name, blocklist.AllCategories, now.Unix())
	if verdict.Action != blocklist.BlockedBy ||
		d.before.Match(name, blocklist.AllCategories, now.Unix()).Action == blocklist.BlockedBy {
		return nil
	}
	d.Popular++
	e, _ := d.after.Explain(name, verdict)
	if d.enc != nil {
		return d.enc.Encode(popularJSON{"popular", blocklist.NameText(name), rank, e.Name, e.Scope.String(), e.Category.String(), e.Sources})
	}
	_, err := fmt.Fprintf(d.out, "! %s, rank %d in popularity, would be blocked: %s: %s\n", blocklist.NameText(name), rank, e.Name, describeEntry(e))
	return err
}

func (d *comparison) writeSummary() error {
	before, after := d.before.Stats(), d.after.Stats()
	if d.enc != nil {
		return d.enc.Encode(diffSummary{
			setJSON{before.Version, before.Names}, setJSON{after.Version, after.Names}, d.Added, d.Removed, d.Changed, d.Popular, d.byList,
		})
	}
	if d.Added+d.Removed+d.Changed == 0 {
		_, err := fmt.Fprintf(d.out, "no differences: %s\n", report.Count(after.Names, "name"))
		return err
	}
	var b strings.Builder
	if d.limit > 0 && max(d.Added, d.Removed, d.Changed) > d.limit {
		fmt.Fprintf(&b, "  the first %d of each are shown; --limit 0 shows all\n", d.limit)
	}
	for _, list := range slices.Sorted(maps.Keys(d.byList)) {
		fmt.Fprintf(&b, "%s: %d added, %d removed\n", list, d.byList[list].Added, d.byList[list].Removed)
	}
	fmt.Fprintf(&b, "%d added, %d removed, %d changed: from %s to %s\n",
		d.Added, d.Removed, d.Changed, report.Count(before.Names, "name"), report.Count(after.Names, "name"))
	if d.Popular > 0 {
		fmt.Fprintf(&b, "%s of the popularity list would be newly blocked\n", report.Count(d.Popular, "name"))
	}
	_, err := io.WriteString(d.out, b.String())
	return err
}
