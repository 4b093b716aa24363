package operate

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/internal/config"
	"rempart/internal/signing"
)

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, list and rotate the keys of control and of authors",
		Long: `Keys sign the records that control publishes, and the change sets of authors. A key ring, which a root key signs, holds the roles of each key, and
every server knows a root key: REMPART_CONTROL_KEY. These commands work on the folder of keys (REMPART_KEYS); a running control reads a
changed key ring at SIGHUP.`,
	}
	return cli.WithCommands(cmd, keysInitCommand(), keysListCommand(), keysNewCommand(), keysGrantCommand(), keysRevokeCommand(), keysRotateCommand(), keysThresholdCommand())
}

// openKeys opens the keys in the folder of REMPART_KEYS.
func openKeys() (*signing.Keys, error) {
	folder, err := config.KeysFolder()
	if err != nil {
		return nil, err
	}
	return signing.OpenExistingKeys(folder)
}

func keysInitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "Make control's keys and a key ring, unless they are there", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folder, err := config.KeysFolder()
			if err != nil {
				return err
			}
			k, made, err := signing.OpenKeys(folder)
			if err != nil {
				return err
			}
			ring, err := k.Ring()
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if !made {
				fmt.Fprintf(out, "keys are in %s already\n", folder)
			} else {
				fmt.Fprintf(out, "keys were created in %s\n", folder)
				fmt.Fprintf(out, "%s signs which key may do what: store it outside this machine, and put it back only while it is needed\n", k.Path(signing.RootKey))
			}
			fmt.Fprintf(out, "servers that follow this control need:\n  REMPART_CONTROL_KEY=%s\n", ring.RootKeys[0])
			return nil
		},
	}
}

func keysListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the keys and their roles", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := openKeys()
			if err != nil {
				return err
			}
			ring, err := k.Ring()
			if err != nil {
				return err
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout()).Encode(ring.Ring)
			}
			return writeRing(cmd.OutOrStdout(), ring.Ring, ring.RootKeys)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func writeRing(w io.Writer, ring *signing.Ring, roots []signing.PublicKey) error {
	tw := cli.Table(w)
	fmt.Fprintln(tw, "ROLE\tKEY (NAME+HASH IS ITS ID)\tUNTIL")
	for _, r := range roots {
		fmt.Fprintf(tw, "root\t%s\n", r)
	}
	for _, k := range ring.Keys {
		var roles []string
		for _, r := range k.Roles {
			roles = append(roles, string(r))
		}
		until := ""
		if k.Until > 0 {
			until = "until " + time.Unix(k.Until, 0).UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", strings.Join(roles, ","), k.Key, until)
	}
	if t := ring.Threshold; t.Keys > 1 {
		fmt.Fprintf(tw, "threshold\tmore than %d changes need %d keys\n", t.Changes, t.Keys)
	}
	return tw.Flush()
}

func keysNewCommand() *cobra.Command {
	return &cobra.Command{
		Use: "new FILE NAME", Short: "Make a key for an author or an approver, in a file of its own", Args: cobra.ExactArgs(2),
		Long: `Make a key on the machine where it will be used: the secret key is written to FILE, the public key to standard output. A holder of the root key grants a role to it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := signing.WriteNewKey(args[0], args[1])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
}

func keysGrantCommand() *cobra.Command {
	var root string
	var roles []string
	var valid time.Duration
	cmd := &cobra.Command{
		Use: "grant KEY", Short: "Give a public key a role", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			public, err := signing.ParsePublicKey(args[0])
			if err != nil {
				return err
			}
			granted := signing.RingKey{Key: public.String()}
			for _, r := range roles {
				role := signing.Role(r)
				if !slices.Contains([]signing.Role{signing.RoleAuthor, signing.RoleApprover, signing.RoleControl, signing.RoleFeeds}, role) {
					return fmt.Errorf("--role %s: the roles are author, approver, control and feeds", r)
				}
				granted.Roles = append(granted.Roles, role)
			}
			if len(granted.Roles) == 0 {
				return errors.New("--role: a role is needed: author, approver, control or feeds")
			}
			if valid > 0 {
				granted.Until = time.Now().Add(valid).Unix()
			}
			return changeRing(cmd, root, func(ring *signing.Ring) error {
				ring.Keys = append(withoutKey(ring.Keys, public.ID()), granted)
				return nil
			})
		},
	}
	rootFlag(cmd, &root)
	cmd.Flags().StringSliceVar(&roles, "role", nil, "author, approver, control or feeds; may be given several times")
	cli.DurationFlag(cmd, &valid, "valid", "lifetime, like 365d; 0 means until it is revoked")
	return cmd
}

func keysRevokeCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "Revoke all roles of a key", Args: cobra.ExactArgs(1),
		Long: `Revoke all roles of a key. ID is NAME+HASH, the beginning of the key in "rempart keys list"; the whole key works too.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if whole, err := signing.ParsePublicKey(id); err == nil {
				id = whole.ID()
			}
			return changeRing(cmd, root, func(ring *signing.Ring) error {
				left := withoutKey(ring.Keys, id)
				if len(left) == len(ring.Keys) {
					return fmt.Errorf("no key %q is in the key ring: \"rempart keys list\" shows its keys; the ID of a key is its beginning, NAME+HASH", id)
				}
				ring.Keys = left
				return nil
			})
		},
	}
	rootFlag(cmd, &root)
	return cmd
}

func keysRotateCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use: "rotate control|feeds|desk", Short: "Replace one of control's own keys", Args: cobra.ExactArgs(1),
		ValidArgs: []string{signing.ControlKey, signing.FeedsKey, signing.DeskKey},
		Long: `Replace one of control's own keys by a new one with the same role. The old key keeps its role for a week, so that records it signed
just now are still accepted. Control publishes the changed key ring at SIGHUP or at its next start, and uses the new key from that start on: restart it
within the week.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			role, ok := map[string]signing.Role{
				signing.ControlKey: signing.RoleControl, signing.FeedsKey: signing.RoleFeeds, signing.DeskKey: signing.RoleAuthor,
			}[args[0]]
			if !ok {
				return fmt.Errorf("%q: control's own keys are control, feeds and desk", args[0])
			}
			k, err := openKeys()
			if err != nil {
				return err
			}
			signer, err := rootKey(root)
			if err != nil {
				return err
			}
			key, err := k.Rotate(signer, args[0], role, 7*24*time.Hour)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key)
			return err
		},
	}
	rootFlag(cmd, &root)
	return cmd
}

func keysThresholdCommand() *cobra.Command {
	var root string
	var t signing.Threshold
	cmd := &cobra.Command{
		Use: "threshold", Short: "Require several keys for large change sets", Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return changeRing(cmd, root, func(ring *signing.Ring) error {
				ring.Threshold = t
				return nil
			})
		},
	}
	rootFlag(cmd, &root)
	cmd.Flags().IntVar(&t.Changes, "changes", 100, "change sets with more changes than this")
	cmd.Flags().IntVar(&t.Keys, "keys", 2, "need so many signatures of authors and approvers; 0 requires the signature of the author only")
	return cmd
}

// changeRing edits the key ring and signs it with the root key in a file; "" stands for the root key in the folder of keys.
func changeRing(cmd *cobra.Command, root string, edit func(*signing.Ring) error) error {
	k, err := openKeys()
	if err != nil {
		return err
	}
	signer, err := rootKey(root)
	if err != nil {
		return err
	}
	if err := k.Change(signer, edit); err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "the key ring was changed; a running control reads it at SIGHUP")
	return nil
}

// withoutKey returns the keys except the one with an ID.
func withoutKey(keys []signing.RingKey, id string) (left []signing.RingKey) {
	for _, rk := range keys {
		if k, err := signing.ParsePublicKey(rk.Key); err != nil || k.ID() != id {
			left = append(left, rk)
		}
	}
	return left
}
