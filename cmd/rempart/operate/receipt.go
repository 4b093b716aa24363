package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

// finish writes the receipt of a pushed change set.
func (u *upload) finish(cmd *cobra.Command, c *apiClient, s *receiptFlags, raw []byte, r *changeset.Receipt) error {
	for _, refused := range [][]changeset.Refusal{r.Refused, r.Held} { // the API numbers signed changes, not lines
		for i := range refused {
			if at := refused[i].Line; u.signed != nil && at > 0 && at <= len(u.lines) {
				refused[i].Line = int(u.lines[at-1])
			}
		}
	}
	r.Refused, r.Refusals = append(u.invalid, r.Refused...), r.Refusals+len(u.invalid)
	slices.SortStableFunc(r.Refused, func(x, y changeset.Refusal) int { return cmp.Compare(x.Line, y.Line) })
	return s.complete(cmd, c, raw, r)
}

// complete writes a receipt and, with --wait, waits until its version is in force on every server. It returns cli.Negative if not all changes were accepted.
func (s *receiptFlags) complete(cmd *cobra.Command, c *apiClient, raw []byte, r *changeset.Receipt) error {
	var err error
	if s.asJSON {
		err = writeRaw(cmd.OutOrStdout(), raw)
	} else {
		err = writeReceipt(cmd.OutOrStdout(), r)
	}
	if err != nil {
		return err
	}
	if isPublished(r.State) {
		err = s.awaitServers(cmd, c, r.Version, r.Reaches)
	}
	if err == nil && !isSettled(r) {
		err = cli.Negative
	}
	return err
}

// awaitServers waits, with --wait, until a version is in force on every server, and writes the number of servers on which the version is in force. reaches is
// the number of servers that the changes apply to; nil for all.
func (s *receiptFlags) awaitServers(cmd *cobra.Command, c *apiClient, version uint64, reaches *int) error {
	if s.wait <= 0 {
		return nil
	}
	v, err := c.awaitVersion(cmd.Context(), version, s.wait)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if s.asJSON { // the output is one JSON document
		out = cmd.ErrOrStderr()
	}
	line := inForceLine(v)
	if reaches != nil {
		line += fmt.Sprintf("; its changes apply to %s", report.Count(*reaches, "server"))
	}
	fmt.Fprintln(out, line)
	if s.mustWait && (v.InForce < v.Nodes || v.Nodes == 0 || reaches != nil && *reaches == 0) {
		return cli.Negative
	}
	return nil
}

// isPublished reports whether a change set in state s is in force, on a share of the servers at least.
func isPublished(s changeset.State) bool { return s == changeset.Published || s == changeset.Staged }

// isSettled reports whether all changes were accepted and no change waits for approval.
func isSettled(r *changeset.Receipt) bool {
	switch r.State {
	case changeset.Published, changeset.Staged, changeset.Undone:
		return r.Refusals == 0 && (r.HeldAs == "" || isPublished(r.HeldNow))
	case changeset.DryRun:
		return r.Refusals == 0 && r.Holds == 0
	}
	return false
}

// writeReceipt writes a receipt as text.
func writeReceipt(out io.Writer, r *changeset.Receipt) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", r.ID, stateLine(r))
	writeRefusals(&b, "refused", r.Refused, r.Refusals)
	if r.State == changeset.Held || r.State == changeset.DryRun {
		writeRefusals(&b, "held", r.Held, r.Holds)
	}
	if r.HeldAs != "" {
		fmt.Fprintf(&b, "  %s\n", apartLine(r))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "  warning: %s\n", w)
	}
	if len(r.Nodes) > 0 {
		fmt.Fprintf(&b, "  in force on %s: %s\n", report.Count(len(r.Nodes), "server"), strings.Join(r.Nodes, ", "))
	}
	if r.State == changeset.Held {
		fmt.Fprintf(&b, "needs approval by a second person: review it with \"rempart show %s\", then run \"rempart approve %s\"\n", r.ID, r.ID)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// apartLine describes the changes that are held as a change set of their own.
func apartLine(r *changeset.Receipt) string {
	switch r.HeldNow {
	case "", changeset.Held: // "" on a receipt that was written when they were held
		return fmt.Sprintf("%s held as %s: rempart show %s, rempart approve %s", report.Count(r.SetApart, "change"), r.HeldAs, r.HeldAs, r.HeldAs)
	}
	return fmt.Sprintf("%s set apart as %s, now %s: rempart show %s", report.Count(r.SetApart, "change"), r.HeldAs, r.HeldNow, r.HeldAs)
}

// stateLine describes the state of a change set.
func stateLine(r *changeset.Receipt) string {
	switch r.Kind {
	case "suspend":
		return fmt.Sprintf("enforcement suspended, as of version %d", r.Version)
	case "resume":
		return fmt.Sprintf("enforcement resumed, as of version %d", r.Version)
	}
	changes := report.Count(r.Accepted, "change")
	if r.Refusals > 0 {
		changes += fmt.Sprintf(", %d refused", r.Refusals)
	}
	text := string(r.State)
	switch r.State {
	case changeset.Published:
		text = fmt.Sprintf("%s, in the journal as version %d", changes, r.Version)
	case changeset.Staged:
		text = fmt.Sprintf("%s, in the journal as version %d, on a share of the servers first", changes, r.Version)
	case changeset.Held:
		text = changes + ", held: it has no effect yet"
	case changeset.Refused:
		text = "refused: it has no effect"
	case changeset.Rejected:
		text = changes + ", rejected: it has no effect"
	case changeset.Undone:
		text = fmt.Sprintf("%s, in the journal as version %d, and undone", changes, r.Version)
		if r.UndoneBy != "" {
			text += " by " + r.UndoneBy
		}
	case changeset.DryRun:
		text = "accepted"
		if r.Holds > 0 {
			text = "held"
		}
		text = fmt.Sprintf("nothing was done; a push would be %s: %s", text, changes)
	case changeset.Pending:
		text = "being published"
	}
	if r.Note != "" {
		text += " (" + r.Note + ")"
	}
	return text
}

// writeRefusals writes the reasons of the refusals in a receipt. A receipt holds the first refusals only: all is their total number.
func writeRefusals(w io.Writer, word string, some []changeset.Refusal, all int) {
	for _, r := range some {
		at := r.Name
		if r.Line > 0 && at != "" {
			at = fmt.Sprintf("line %d, %s", r.Line, r.Name)
		} else if r.Line > 0 {
			at = fmt.Sprintf("line %d", r.Line)
		}
		if at != "" {
			at += ": "
		}
		fmt.Fprintf(w, "  %s%s (%s): %s\n", at, word, r.Guard, r.Why)
	}
	if all > len(some) {
		fmt.Fprintf(w, "  and %d more\n", all-len(some))
	}
}

func refusalOf(line int, name string, bad error) changeset.Refusal {
	r := changeset.Refusal{Line: line, Name: fmt.Sprint(sanitize(name)), Guard: "line", Why: fmt.Sprint(sanitize(bad.Error()))}
	if field := (*journal.FieldError)(nil); errors.As(bad, &field) {
		r.Guard, r.Why = field.Name, fmt.Sprint(sanitize(field.Why))
	}
	return r
}

// awaitVersion polls control until a version is in force on all servers or patience has passed, and returns the last answer.
func (c *apiClient) awaitVersion(ctx context.Context, version uint64, patience time.Duration) (v pushapi.VersionInfo, err error) {
	end := time.Now().Add(patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		if _, err = c.get(ctx, "/v1/versions/"+strconv.FormatUint(version, 10), nil, &v); err != nil {
			return v, err
		}
		if v.Nodes > 0 && v.InForce >= v.Nodes || time.Now().Add(pause).After(end) {
			return v, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

func inForceLine(v pushapi.VersionInfo) string {
	if v.Nodes == 0 {
		return "not known to be in force anywhere: no server has reported to this control since its start"
	}
	text := fmt.Sprintf("in force on %d of %s", v.InForce, report.Count(v.Nodes, "server"))
	if v.InForce > 0 {
		text += fmt.Sprintf(", slowest %d ms", v.Slowest)
	}
	return text
}

// changesetPath returns the path of a change set in the API.
func changesetPath(id string) string { return "/v1/changesets/" + url.PathEscape(id) }
