package operate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/config"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Create, rotate, revoke and list the tokens of the operators' API",
		Long: `A token lets a person or a program call the operators' API of REMPART_API, in its roles. To create, rotate or revoke a token, a root
key must sign the order.

` + rolesHelp,
	}
	return cli.WithCommands(cmd, tokenCreateCommand(), tokenRotateCommand(), tokenRevokeCommand(), tokenListCommand())
}

// rolesHelp describes the roles.
const rolesHelp = `Roles:
  publisher  pushes change sets, advances and undoes them, suspends and resumes enforcement; reads change sets, names and servers
  approver   approves or rejects held change sets, advances and undoes, suspends and resumes, confirms decisions about appeals; reads the same, appeals and tokens
  reviewer   reads and decides appeals (requests of the public for a review of a block), and confirms decisions of others
  auditor    reads everything: the audit trail, tokens, change sets, appeals, names and servers; changes nothing
  node       follows the journal and reports what is in force; calls nothing else`

// rootFlag adds the flag that names the root key.
func rootFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "root", "", "file of the root key; by default root.key in the folder of keys (REMPART_KEYS)")
}

func tokenCreateCommand() *cobra.Command {
	var root, certificate, output string
	var valid time.Duration
	var roles []string
	order := pushapi.Order{Do: "create"}
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a token, and write its secret once", Args: cobra.ExactArgs(1),
		Long: `Create a token of that name. Its secret is written once, to standard output or to the file of --output: control keeps a hash of it. With --certificate a
client certificate is the token, and there is no secret. A name is used for one token only.

` + rolesHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			order.Name = args[0]
			for _, r := range roles {
				order.Roles = append(order.Roles, pushapi.Role(r))
			}
			if valid < 0 {
				return fmt.Errorf("--valid %s: a lifetime like 720h; 0 means until it is revoked", valid)
			}
			if valid > 0 {
				order.Expires = time.Now().Add(valid).Unix()
			}
			if err := readCertificateInto(&order, certificate); err != nil {
				return err
			}
			made, err := orderSecret(cmd, root, output, order)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "token %s was created: %s, for %s%s\n", made.Name, rolesText(made.Roles), made.Owner, until(made.Expires))
			return adviseSecret(cmd, made, output)
		},
	}
	outputFlag(cmd, &output)
	rootFlag(cmd, &root)
	cmd.Flags().StringSliceVar(&roles, "role", nil, "publisher, approver, reviewer, auditor or node; may be given several times")
	cmd.Flags().StringVar(&order.Owner, "owner", "", "the person behind it, by default its name: who pushed something cannot approve it, whichever token is used")
	cli.DurationFlag(cmd, &valid, "valid", "lifetime, like 30d or 720h; 0 means until it is revoked")
	cmd.Flags().StringVar(&certificate, "certificate", "", "PEM file of a client certificate that is to be the token")
	_ = cmd.MarkFlagRequired("role") // the flag exists
	return cmd
}

func tokenRotateCommand() *cobra.Command {
	var root, certificate, output string
	var keep, valid time.Duration
	order := pushapi.Order{Do: "rotate"}
	cmd := &cobra.Command{
		Use: "rotate NAME", Short: "Replace the secret of a token, and write the new one once", Args: cobra.ExactArgs(1),
		Long: `Replace the secret of a token, which keeps its name, owner and roles. The earlier secret is accepted no longer, or with --keep for that long: rotate, then put the new
secret where the old one was. Servers read the file of REMPART_CONTROL_TOKEN_FILE again when it changes. With --certificate a new client certificate is the
token. A token that is revoked or expired is not rotated. If no answer arrived, the token may have been rotated: run the command again with the same --keep.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			order.Name = args[0]
			if keep < 0 || valid < 0 {
				return errors.New("--keep and --valid: durations like 1h or 30d")
			}
			order.Keep = int64(keep / time.Second)
			if valid > 0 {
				order.Expires = time.Now().Add(valid).Unix()
			}
			if err := readCertificateInto(&order, certificate); err != nil {
				return err
			}
			rotated, err := orderSecret(cmd, root, output, order)
			if err != nil {
				return err
			}
			accepted := "the earlier secret is not accepted any more"
			if !rotated.Earlier.IsZero() {
				accepted = "the earlier secret is accepted until " + report.Moment(rotated.Earlier)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "token %s was rotated: %s%s\n", rotated.Name, accepted, until(rotated.Expires))
			return adviseSecret(cmd, rotated, output)
		},
	}
	rootFlag(cmd, &root)
	outputFlag(cmd, &output)
	cli.DurationFlag(cmd, &keep, "keep", "how long the earlier secret is still accepted, like 1h, at most 30d; 0 means not at all")
	cli.DurationFlag(cmd, &valid, "valid", "lifetime of the token from now, like 30d; 0 keeps its expiry")
	cmd.Flags().StringVar(&certificate, "certificate", "", "PEM file of the client certificate that is to be the token")
	return cmd
}

// outputFlag adds the flag that names the file for a secret.
func outputFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "output", "o", "", "new file for the secret, which its owner alone may read (mode 0600); an existing file is not overwritten")
}

// readCertificateInto puts the certificate in a file into an order; "" stands for none.
func readCertificateInto(order *pushapi.Order, path string) error {
	if path == "" {
		return nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--certificate: %w", err)
	}
	order.Certificate = string(pem)
	return nil
}

// orderSecret makes control carry out an order that returns a secret, and writes the secret to a new file, or to standard output if output is "". The file is
// created before the order is sent, since a secret that cannot be written would be lost, and after everything was read that the order takes. It is removed if
// the order fails.
func orderSecret(cmd *cobra.Command, root, output string, order pushapi.Order) (*pushapi.TokenInfo, error) {
	c, err := openOrders(root)
	if err != nil {
		return nil, err
	}
	if output == "" || order.Certificate != "" {
		info, err := c.execute(cmd.Context(), order)
		if err == nil && info.Secret != "" {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), info.Secret)
		}
		return info, err
	}
	f, err := secrets.NewFile(output)
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	info, err := c.execute(cmd.Context(), order)
	if err == nil {
		if _, err = fmt.Fprintln(f, info.Secret); err == nil {
			err = f.Sync()
		}
		if err != nil {
			err = fmt.Errorf("the secret could not be written and is lost: rotate the token: %w", err)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(output)
	}
	return info, err
}

// adviseSecret writes which settings take the secret.
func adviseSecret(cmd *cobra.Command, t *pushapi.TokenInfo, output string) error {
	advice := "the secret of the token is shown only once: store it in a file, and set REMPART_API_TOKEN_FILE or REMPART_CONTROL_TOKEN_FILE to its path"
	switch {
	case t.Secret == "":
		advice = "the certificate replaces the token: set REMPART_API_CERT to its path"
	case output != "":
		advice = "the secret of the token is in " + output + ": set REMPART_API_TOKEN_FILE, or REMPART_CONTROL_TOKEN_FILE of a server, to this path"
	}
	_, err := fmt.Fprintln(cmd.ErrOrStderr(), advice)
	return err
}

func tokenRevokeCommand() *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "Revoke a token", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openOrders(root)
			if err != nil {
				return err
			}
			gone, err := c.execute(cmd.Context(), pushapi.Order{Do: "revoke", Name: args[0]})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked since %s\n", gone.Name, report.Moment(gone.Revoked))
			return err
		},
	}
	rootFlag(cmd, &root)
	return cmd
}

// orderClient sends orders that a root key signs.
type orderClient struct {
	api *apiClient
	key *signing.SecretKey
}

// openOrders reads what orders take: the settings and the root key. No token is read: an order needs none, and the file that REMPART_API_TOKEN_FILE names may
// be the one that is to be created.
func openOrders(root string) (*orderClient, error) {
	o, err := config.LoadClient()
	if err != nil {
		return nil, err
	}
	o.APIToken, o.APITokenFile = "", ""
	c, err := newAPIClient(o, "")
	if err != nil {
		return nil, err
	}
	key, err := rootKey(root)
	if err != nil {
		return nil, err
	}
	return &orderClient{c, key}, nil
}

// execute sends an order to control, which carries it out.
func (c *orderClient) execute(ctx context.Context, order pushapi.Order) (*pushapi.TokenInfo, error) {
	order.Time = time.Now().Unix()
	payload, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	sealed := signing.Seal(signing.KindOrder, payload, c.key)
	raw, err := c.api.do(ctx, &apiRequest{
		method: http.MethodPost, path: "/v1/tokens", mediaType: "application/vnd.rempart.order", size: int64(len(sealed)),
		body:  func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sealed)), nil },
		again: order.Do == "revoke", // a secret is returned only once
	})
	if err != nil {
		return nil, err
	}
	var info pushapi.TokenInfo
	return &info, decodeAnswer(raw, &info)
}

// rootKey returns the root key in a file, or else in the folder of keys.
func rootKey(path string) (*signing.SecretKey, error) {
	if path == "" {
		folder, err := config.KeysFolder()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(folder, signing.RootKey+".key")
	}
	key, err := readKey(path)
	if err != nil {
		return nil, fmt.Errorf("signing needs the root key: %w; name its file with --root, or its folder with REMPART_KEYS", err)
	}
	return key, nil
}

// readKey reads a file of a secret key, and warns if others can read it.
func readKey(path string) (*signing.SecretKey, error) {
	warnSecretFile("the secret key", path)
	return signing.ReadSecretKey(path)
}

// warnSecretFile writes a warning to standard error if others can read a file that holds a secret.
func warnSecretFile(what, path string) {
	if warning := secrets.ReadableByOthers(what, path); warning != "" {
		fmt.Fprintln(cli.Redact(os.Stderr), "rempart: warning:", warning)
	}
}

func tokenListCommand() *cobra.Command {
	return resourceCommand(&cobra.Command{
		Use: "list", Short: "List the tokens, as an auditor or approver", Args: cli.NoArgs,
		Long: "List the tokens, without their secrets. " + apiHelp,
	}, func([]string) (string, url.Values) { return "/v1/tokens", nil }, writeTokens)
}

func writeTokens(out io.Writer, all *struct{ Tokens []pushapi.TokenInfo }) error {
	tw := cli.Table(out)
	for _, t := range all.Tokens {
		state := "since " + report.Moment(t.Created) + until(t.Expires)
		if !t.Rotated.IsZero() {
			state += ", rotated " + report.Moment(t.Rotated)
		}
		if !t.Earlier.IsZero() {
			state += ", earlier secret accepted until " + report.Moment(t.Earlier)
		}
		if !t.Revoked.IsZero() {
			state = "revoked " + report.Moment(t.Revoked)
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", t.Name, rolesText(t.Roles), t.Owner, state)
	}
	return tw.Flush()
}

func rolesText(roles []pushapi.Role) string {
	var all []string
	for _, r := range roles {
		all = append(all, string(r))
	}
	return strings.Join(all, ",")
}

// until returns ", until" and a time; "" for the zero time.
func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", until " + report.Moment(t)
}
