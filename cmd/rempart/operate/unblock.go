package operate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

func unblockCommand() *cobra.Command {
	var s receiptFlags
	var reason, scope string
	cmd := &cobra.Command{
		Use: "unblock NAME…", Short: "Unblock names on every server", Args: cobra.MinimumNArgs(1),
		Long: `Unblock names on every server, by one change set: operators' blocks of a name are withdrawn. If a list, or an operator's block of a parent domain, would
still block the name, the name is allowed; a later list cannot block an allowed name.
` + apiHelp + `

Exit code: 0 if all names pass, or passed before; 1 if a change was refused or is held, or was not in force everywhere within --wait; 2 on an error.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			s.waitDefault(cmd)
			if reason == "" {
				return errors.New("--reason: give a reason; it is recorded in the journal")
			}
			c, err := openAPI(s.tokenFile)
			if err != nil {
				return err
			}
			var changes []changeset.Change
			for _, name := range names {
				var info pushapi.NameInfo
				if _, err := c.get(cmd.Context(), "/v1/names/"+url.PathEscape(name), nil, &info); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				acts, words := planUnblock(&info, time.Now())
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", info.Name, words)
				for _, do := range acts {
					ch := changeset.Change{Do: do, Name: info.Name, Reason: reason}
					if do == journal.Allow {
						ch.Scope = scope
					}
					changes = append(changes, ch)
				}
			}
			if len(changes) == 0 {
				return nil
			}
			return unblock(cmd, c, &s, changes)
		},
	}
	s.addFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "the reason; it is recorded in the journal")
	cmd.Flags().StringVar(&scope, "scope", "subtree", "scope of an allow: subtree (the name and all names below it) or exact (the name alone)")
	return cmd
}

// unblock pushes the changes as one change set.
func unblock(cmd *cobra.Command, c *apiClient, s *receiptFlags, changes []changeset.Change) error {
	file, err := newScratchFile()
	if err != nil {
		return err
	}
	defer file.close()
	var lines bytes.Buffer
	enc := json.NewEncoder(&lines) // one change per line
	for i := range changes {
		if err := enc.Encode(&changes[i]); err != nil {
			return err
		}
	}
	if _, err := file.file.Write(lines.Bytes()); err != nil {
		return err
	}
	u := &upload{set: &journal.ChangeSet{ID: newID(time.Now())}, changes: file}
	return u.push(cmd, c, s)
}

// planUnblock returns the acts that make a name pass, and a description of these acts for the operator.
func planUnblock(info *pushapi.NameInfo, now time.Time) (acts []journal.Act, words string) {
	own, others := false, []string{}
	for _, claim := range info.Claims {
		if claim.Does != "block" || !claim.InEffect || !claim.Expiry.IsZero() && !claim.Expiry.After(now) {
			continue
		}
		itself := claim.Name == info.Name
		if !itself && claim.Scope == "exact" {
			continue
		}
		for _, source := range claim.Sources {
			switch {
			case source == journal.Operator && itself:
				own = true
			case source == journal.Operator:
				others = append(others, "operators block "+claim.Name)
			case !isExcepted(info, source):
				others = append(others, source+" lists "+claim.Name)
			}
		}
	}
	slices.Sort(others)
	others = slices.Compact(others)
	if own {
		acts = append(acts, journal.Withdraw)
		words = "operators' changes to this name are withdrawn"
	}
	switch {
	case len(others) == 0 && !own && info.Verdict == "block":
		return []journal.Act{journal.Allow}, "the name is allowed" // no claim explains the block
	case len(others) == 0 && !own:
		return nil, "not blocked"
	case len(others) == 0:
		return acts, words
	case info.Verdict == "allow" && !own:
		return nil, "already allowed"
	}
	if own {
		words += ", and "
	}
	return append(acts, journal.Allow), words + "the name is allowed, because " + strings.Join(others[:min(3, len(others))], ", ")
}

// isExcepted reports whether a list's own exception cancels its listing of a name.
func isExcepted(info *pushapi.NameInfo, source string) bool {
	return slices.ContainsFunc(info.Claims, func(c pushapi.Claim) bool {
		return c.Does == "except" && slices.Contains(c.Sources, source) && (c.Name == info.Name && c.Scope != "below" || c.Name != info.Name && c.Scope != "exact")
	})
}
