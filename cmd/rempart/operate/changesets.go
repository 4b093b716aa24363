package operate

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/changeset"
	"rempart/internal/signing"
)

func changesetsCommand() *cobra.Command {
	var state string
	var limit int
	cmd := &cobra.Command{
		Use: "changesets", Short: "List change sets, the newest first", Args: cli.NoArgs,
		Long: `List the change sets that were pushed, the newest first: with --state held those that wait for a second person.
` + apiHelp,
	}
	cmd.Flags().StringVar(&state, "state", "", "only change sets in this state: pending, published, staged, held, rejected, refused or undone")
	cmd.Flags().IntVar(&limit, "limit", 20, "the maximum number of change sets, up to 1000")
	return resourceCommand(cmd, func([]string) (string, url.Values) { return "/v1/changesets", listQuery(limit, state) }, writeChangeSets)
}

// listQuery returns the query of a list of which at most limit elements are returned, those in a state only, "" for all.
func listQuery(limit int, state string) url.Values {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	if state != "" {
		query.Set("state", state)
	}
	return query
}

func writeChangeSets(out io.Writer, all *struct{ ChangeSets []changeset.Receipt }) error {
	tw := cli.Table(out)
	for _, r := range all.ChangeSets {
		what := stateLine(&r)
		if r.Comment != "" {
			what += ": " + r.Comment
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.ID, report.Moment(r.Time), r.By, what)
	}
	return tw.Flush()
}

func showCommand() *cobra.Command {
	var asJSON, changes bool
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show the state of a change set, or the changes of a held one", Args: cobra.ExactArgs(1),
		Long: `Show the state of a change set: who pushed and who approved it, which changes were refused, and why it is held. With --changes write the changes of a
held one as they were signed, one JSON object per line.
` + apiHelp,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "the receipt as JSON")
	cmd.Flags().BoolVar(&changes, "changes", false, "write the changes of a held change set")
	return apiCommand(cmd, func(cmd *cobra.Command, c *apiClient, args []string) error {
		if changes {
			_, err := c.content(cmd.Context(), args[0], cmd.OutOrStdout())
			return err
		}
		var r changeset.Receipt
		raw, err := c.get(cmd.Context(), changesetPath(args[0]), nil, &r)
		if err != nil {
			return err
		}
		if asJSON {
			return writeRaw(cmd.OutOrStdout(), raw)
		}
		if err := writeReceipt(cmd.OutOrStdout(), &r); err != nil {
			return err
		}
		return writeHistory(cmd.OutOrStdout(), &r)
	})
}

// writeHistory writes who pushed, signed, approved and undid a change set, and when.
func writeHistory(out io.Writer, r *changeset.Receipt) error {
	tw := cli.Table(out)
	writeFacts(tw, "  %s\t%s\n", [][2]string{
		{"pushed by", r.By}, {"at", report.Moment(r.Time)}, {"signed by", strings.Join(r.Authors, ", ")}, {"approved by", strings.Join(r.Approved, ", ")},
		{"comment", r.Comment}, {"part of", r.PartOf}, {"undoes", r.Undoes}, {"undone by", r.UndoneBy}, {"digest", r.Digest},
	})
	return tw.Flush()
}

// content writes the bytes of a held change set that are signed, and returns their SHA-512.
func (c *apiClient) content(ctx context.Context, id string, w io.Writer) ([]byte, error) {
	q := &apiRequest{method: http.MethodGet, path: changesetPath(id) + "/content", upload: true}
	resp, err := c.send(ctx, q)
	if err != nil {
		return nil, c.explain(err, &apiRequest{again: true})
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		data, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // a part of the error is better than none
		return nil, readProblem(resp, data)
	}
	digest := sha512.New()
	_, err = io.Copy(io.MultiWriter(w, digest), resp.Body)
	return digest.Sum(nil), err
}

func approveCommand() *cobra.Command {
	var s receiptFlags
	var keyFile, content string
	var reject bool
	cmd := &cobra.Command{
		Use: "approve ID", Short: "Approve a held change set, as a second person, or reject it", Args: cobra.ExactArgs(1),
		Long: `Approve a held change set, or reject it with --reject, so that it never takes effect. The person who pushed it cannot approve it: a second person must. If the key ring
requires several keys, --key signs it with the approver's own key: the bytes in the file of --content are signed, which "rempart show ID
--changes" wrote and the approver read, or else the bytes that control returns now.
` + apiHelp + `

Exit code: 0 if all changes are in the journal (or the change set is rejected); 1 if a change was refused, or was not in force everywhere within --wait; 2 on an error.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.waitDefault(cmd)
			if reject && (keyFile != "" || content != "") || content != "" && keyFile == "" {
				return errors.New("--content needs --key, and neither can be combined with --reject")
			}
			c, err := openAPI(s.tokenFile)
			if err != nil {
				return err
			}
			act, body := "/approve", any(nil)
			if reject {
				act = "/reject"
			} else if keyFile != "" {
				if body, err = countersignature(cmd.Context(), c, args[0], keyFile, content); err != nil {
					return err
				}
			}
			var r changeset.Receipt
			raw, err := c.post(cmd.Context(), changesetPath(args[0])+act, body, false, &r)
			if err != nil {
				return fmt.Errorf("change set %s: %w", args[0], err)
			}
			err = s.complete(cmd, c, raw, &r)
			if reject && r.State == changeset.Rejected && errors.Is(err, cli.Negative) {
				return nil // the rejection was requested
			}
			return err
		},
	}
	s.addFlags(cmd)
	cmd.Flags().StringVar(&keyFile, "key", "", "file of the approver's own key, to sign with")
	cmd.Flags().StringVar(&content, "content", "", "file of the changes to sign, with --key")
	cmd.Flags().BoolVar(&reject, "reject", false, "reject the change set")
	return cmd
}

// countersignature returns the signature of an approver's own key on a held change set.
func countersignature(ctx context.Context, c *apiClient, id, keyFile, content string) (any, error) {
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	var digest []byte
	if content == "" {
		digest, err = c.content(ctx, id, io.Discard)
	} else {
		var f *os.File
		if f, err = os.Open(content); err == nil {
			digest, err = changeset.Digest(f)
			f.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	var r changeset.Receipt
	if _, err := c.get(ctx, changesetPath(id), nil, &r); err != nil {
		return nil, err
	}
	if r.Digest != hex.EncodeToString(digest) {
		return nil, fmt.Errorf("change set %s: the bytes to sign are not the pushed ones (their digest is %s): read them again with \"rempart show --changes\"", id, r.Digest)
	}
	return map[string]any{"key": key.ID(), "signature": key.Sign(signing.KindChanges, digest).Bytes}, nil
}

func undoCommand() *cobra.Command {
	var s receiptFlags
	cmd := &cobra.Command{
		Use: "undo ID", Short: "Undo a whole change set", Args: cobra.ExactArgs(1),
		Long: `Undo all changes of a change set by another one that restores the earlier state. Names that later change sets changed again stay as they are, and are listed.
` + apiHelp + `

Exit code: 0 if all changes are undone; 1 if some names stay, or the undo is held, or was not in force everywhere within --wait; 2 on an error.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.waitDefault(cmd)
			c, err := openAPI(s.tokenFile)
			if err != nil {
				return err
			}
			var r changeset.UndoResult
			raw, err := c.post(cmd.Context(), changesetPath(args[0])+"/undo", nil, false, &r)
			if err != nil {
				return fmt.Errorf("change set %s: %w", args[0], err)
			}
			if !s.asJSON {
				for _, name := range r.Left {
					fmt.Fprintf(cmd.OutOrStdout(), "  %s stays as it is: a later change set changed it\n", name)
				}
				if more := r.Lefts - len(r.Left); more > 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "  and %d more stay\n", more)
				}
			}
			if err := s.complete(cmd, c, raw, &r.Receipt); err != nil {
				return err
			}
			if r.Lefts > 0 {
				return cli.Negative
			}
			return nil
		},
	}
	s.addFlags(cmd)
	return cmd
}

func advanceCommand() *cobra.Command {
	var s receiptFlags
	cmd := &cobra.Command{
		Use: "advance ID", Short: "Extend a staged change set to all servers now", Args: cobra.ExactArgs(1),
		Long: `Extend a change set that was pushed with --stage to all servers, before its time.
` + apiHelp + `

Exit code: 0 if the change set is published to all servers, 1 if it was not in force everywhere within --wait, 2 on an error.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.waitDefault(cmd)
			c, err := openAPI(s.tokenFile)
			if err != nil {
				return err
			}
			var r changeset.Receipt
			raw, err := c.post(cmd.Context(), changesetPath(args[0])+"/advance", nil, false, &r)
			if err != nil {
				return fmt.Errorf("change set %s: %w", args[0], err)
			}
			return s.complete(cmd, c, raw, &r)
		},
	}
	s.addFlags(cmd)
	return cmd
}
