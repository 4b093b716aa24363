package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, revoke and list the tokens that may ask the operators' API",
		Long: `A token lets a person or a program ask the operators' API of REMPART_API, in its roles: publisher pushes and undoes, approver lets held
change sets go, auditor reads everything, node follows the journal. Making and revoking one takes an order that a root key signs.`,
	}
	cmd.AddCommand(tokenCreateCommand(), tokenRevokeCommand(), tokenListCommand())
	return cmd
}

// rootFlag gives a command the flag that names the root key.
func rootFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "root", "", "file of the root key; by default root.key in the folder of keys (REMPART_KEYS)")
}

func tokenCreateCommand() *cobra.Command {
	var root, certificate string
	var valid time.Duration
	var roles []string
	order := pushapi.Order{Do: "create"}
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a token, and tell its secret this once", Args: cobra.ExactArgs(1),
		Long: `Make a token of that name. Its secret alone is written to standard output, this once: control keeps a hash of it. With --certificate a
client certificate is the token, and there is no secret. Names are not used again.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			order.Name = args[0]
			for _, r := range roles {
				order.Roles = append(order.Roles, pushapi.Role(r))
			}
			if valid < 0 {
				return fmt.Errorf("--valid %s: how long it is to be valid, like 720h; 0 is until it is revoked", valid)
			}
			if valid > 0 {
				order.Expires = time.Now().Add(valid).Unix()
			}
			if certificate != "" {
				pem, err := os.ReadFile(certificate)
				if err != nil {
					return fmt.Errorf("--certificate: %w", err)
				}
				order.Certificate = string(pem)
			}
			made, err := give(cmd, root, order)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "token %s was made: %s, for %s%s\n", made.Name, rolesText(made.Roles), made.Owner, until(made.Expires))
			if made.Secret == "" {
				fmt.Fprintln(cmd.ErrOrStderr(), "the certificate is the token: REMPART_API_CERT names it")
				return nil
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "its secret is told this once: keep it in a file that REMPART_API_TOKEN_FILE names")
			_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Secret)
			return err
		},
	}
	rootFlag(cmd, &root)
	cmd.Flags().StringSliceVar(&roles, "role", nil, "publisher, approver, auditor or node; may be given several times")
	cmd.Flags().StringVar(&order.Owner, "owner", "", "the person behind it, by default its name: who pushed something cannot approve it, whichever token is used")
	durationFlag(cmd, &valid, "valid", "for how long, like 30d or 720h; 0 is until it is revoked")
	cmd.Flags().StringVar(&certificate, "certificate", "", "PEM file of a client certificate that is to be the token")
	_ = cmd.MarkFlagRequired("role") // it is there
	return cmd
}

func tokenRevokeCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "Have a token count no more", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			gone, err := give(cmd, root, pushapi.Order{Do: "revoke", Name: args[0]})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked since %s\n", gone.Name, moment(gone.Revoked))
			return err
		},
	}
	rootFlag(cmd, &root)
	return cmd
}

// give has control carry out an order, which the root key signs.
func give(cmd *cobra.Command, root string, order pushapi.Order) (*pushapi.TokenInfo, error) {
	o, err := config.LoadClient()
	if err != nil {
		return nil, err
	}
	c, err := newAPIClient(o, "")
	if err != nil {
		return nil, err
	}
	key, err := rootKey(root)
	if err != nil {
		return nil, err
	}
	order.Time = time.Now().Unix()
	payload, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	sealed := journal.Seal(journal.KindOrder, payload, key)
	raw, err := c.do(cmd.Context(), &call{
		method: http.MethodPost, path: "/v1/tokens", mediaType: "application/vnd.rempart.order", size: int64(len(sealed)),
		body:  func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sealed)), nil },
		again: order.Do == "revoke", // a secret is told once
	})
	if err != nil {
		return nil, err
	}
	var info pushapi.TokenInfo
	return &info, decodeAnswer(raw, &info)
}

// rootKey is the one in a file, or in the folder of keys.
func rootKey(path string) (*journal.SecretKey, error) {
	if path == "" {
		folder, err := config.KeysFolder()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(folder, journal.RootKey+".key")
	}
	key, err := journal.ReadSecretKey(path)
	if err != nil {
		return nil, fmt.Errorf("an order takes the root key: %w; name its file with --root, or its folder in REMPART_KEYS", err)
	}
	return key, nil
}

func tokenListCommand() *cobra.Command {
	var asJSON bool
	var tokenFile string
	cmd := &cobra.Command{
		Use: "list", Short: "Say which tokens there are, for an auditor or approver", Args: cobra.NoArgs,
		Long: "Say which tokens there are, without their secrets. " + apiHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := openAPI(tokenFile)
			if err != nil {
				return err
			}
			var all struct{ Tokens []pushapi.TokenInfo }
			raw, err := c.get(cmd.Context(), "/v1/tokens", nil, &all)
			if err != nil {
				return err
			}
			if asJSON {
				return writeRaw(cmd.OutOrStdout(), raw)
			}
			tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, t := range all.Tokens {
				state := "since " + moment(t.Created) + until(t.Expires)
				if !t.Revoked.IsZero() {
					state = "revoked " + moment(t.Revoked)
				}
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", t.Name, rolesText(t.Roles), t.Owner, state)
			}
			return tw.Flush()
		},
	}
	tokenFlag(cmd, &tokenFile)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func rolesText(roles []pushapi.Role) string {
	var all []string
	for _, r := range roles {
		all = append(all, string(r))
	}
	return strings.Join(all, ",")
}

// moment is a time as people read it.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// until is ", until" a time that is one.
func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", until " + moment(t)
}
