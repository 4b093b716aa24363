package inspect

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rempart/blocklist/feed/store"
	"rempart/blocklist/guard"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
)

func heldCommand() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "held",
		Short: "Show the listings that the guards refuse or hold, and why",
		Long: `Show, list by list, which listings the guards refuse or hold, and why: the most popular names first.
A refused listing never takes effect. A held one takes effect once a person has added the name to the file of
REMPART_RELEASED. The first two thousand listings per list and guard are stored; the others are only counted.
` + readsOnly + `

Exit code: 0, or 2 if a list could not be fetched or read, or on another error.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := openInspection(cmd)
			if err != nil {
				return err
			}
			if in.broken != nil { // held listings are read from the lists
				return in.broken
			}
			in.warn(cmd, "the listings are shown")
			h := &heldReport{inspection: in, out: cmd.OutOrStdout(), asJSON: asJSON, all: all}
			if err := h.write(); err != nil {
				return err
			}
			return in.exitCode()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per listing, then one with the totals")
	cmd.Flags().BoolVar(&all, "all", false, "also show the lines that were not understood: the first fifty per list and reason")
	return cmd
}

// heldReport writes the listings that were refused or held.
type heldReport struct {
	*inspection
	out     io.Writer
	asJSON  bool
	all     bool
	list    string // the list of pending
	pending []store.Held
}

// write writes list by list, because the stored listings of one list fit in memory.
func (h *heldReport) write() error {
	err := h.lists.Held(func(e store.Held) error {
		if e.List != h.list {
			if err := h.flush(); err != nil {
				return err
			}
			h.list = e.List
		}
		if h.all || isGuarded(e) {
			h.pending = append(h.pending, e)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := h.flush(); err != nil {
		return err
	}
	return h.writeSummary()
}

// isGuarded reports whether a guard decided; otherwise the line was not understood.
func isGuarded(e store.Held) bool { return e.Name != "" }

// flush writes the pending listings: by rank, then names without rank, then lines that were not understood, in the list's order.
func (h *heldReport) flush() error {
	rank := func(e store.Held) int {
		switch {
		case !isGuarded(e):
			return math.MaxInt
		case e.Rank == 0:
			return math.MaxInt - 1
		}
		return e.Rank
	}
	slices.SortStableFunc(h.pending, func(a, b store.Held) int { return cmp.Compare(rank(a), rank(b)) })
	var b strings.Builder
	enc := cli.JSON(&b)
	if len(h.pending) > 0 && !h.asJSON {
		fmt.Fprintln(&b, h.list)
	}
	for _, e := range h.pending {
		if h.asJSON {
			if err := enc.Encode(e); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(&b, "  %s\n", heldLine(e))
		}
	}
	h.pending = h.pending[:0]
	_, err := io.WriteString(h.out, b.String())
	return err
}

func heldLine(e store.Held) string {
	if !isGuarded(e) {
		return fmt.Sprintf("line %d: not understood (%s)", e.Line, e.Guard)
	}
	outcome := "held"
	if e.Outcome == guard.Refuse.String() {
		outcome = "refused"
	}
	return fmt.Sprintf("%s, line %d: %s by guard %s: %s", e.Name, e.Line, outcome, e.Guard, e.Why)
}

func (h *heldReport) writeSummary() error {
	c := report.HeldTotals(h.status)
	if h.asJSON {
		return cli.JSON(h.out).Encode(c)
	}
	var b strings.Builder
	for _, l := range h.status.Lists {
		if why := c.NotInForce[l.Name]; why != "" {
			fmt.Fprintf(&b, "%s: its newest content is not in force: %s\n", l.Name, why)
		}
	}
	if n := report.Total(c.Held); n > 0 {
		fmt.Fprintf(&b, "held: %s\n  to release a held name, add it to the file of REMPART_RELEASED, one name per line\n", countsText(c.Held))
	}
	if n := report.Total(c.Refused); n > 0 {
		fmt.Fprintf(&b, "refused: %s\n  a refusal is final: report it to the publisher of the list\n", countsText(c.Refused))
	}
	if n := report.Total(c.NotUnderstood); n > 0 && h.all {
		fmt.Fprintf(&b, "not understood: %s\n", countsText(c.NotUnderstood))
	}
	if b.Len() == 0 {
		fmt.Fprintln(&b, "the guards refuse and hold nothing")
	}
	_, err := io.WriteString(h.out, b.String())
	return err
}
