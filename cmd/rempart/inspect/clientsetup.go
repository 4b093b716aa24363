package inspect

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rempart/cmd/rempart/clientsetup"
	"rempart/cmd/rempart/running"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/internal/config"
	"rempart/internal/spelling"
)

// clientSetup holds the flags of the command.
type clientSetup struct {
	addresses []string
	link      string
	unsigned  bool
}

func clientSetupCommand() *cobra.Command {
	var o clientSetup
	var sections strings.Builder
	for _, s := range clientsetup.Sections() {
		fmt.Fprintf(&sections, "  %-17s %s\n", s.Name, s.Title)
	}
	cmd := &cobra.Command{
		Use: "client-setup [client]...", Short: "Print the settings by which devices and programs use this server over TLS and HTTPS",
		Long: `Print the settings by which devices and programs use this server over its encrypted transports: for all clients, or for the named ones. The settings of one
client are printed without a heading, so that they can be written to a file.

` + sections.String() + `
The settings are those of the server that runs on this machine, or of the environment. The name of the server is the first one in the first certificate of
REMPART_CERT, or the first one of REMPART_ACME. A profile is signed with the certificate of REMPART_CERT if this user can read its key; otherwise it is
printed unsigned, with a note.`,
		Example: `  rempart client-setup
  rempart client-setup apple > rempart.mobileconfig
  rempart client-setup qr --url https://isp.example/rempart.mobileconfig`,
		RunE: func(cmd *cobra.Command, names []string) error { return o.run(cmd, names) },
	}
	cmd.Flags().StringSliceVar(&o.addresses, "address", nil, "address of this server as clients see it (default: those in the certificate, else those of the listeners)")
	cmd.Flags().StringVar(&o.link, "url", "", "content of the QR code, such as the URL of a page with the profile")
	cmd.Flags().BoolVar(&o.unsigned, "unsigned", false, "do not sign the profile")
	return cmd
}

func (o *clientSetup) run(cmd *cobra.Command, names []string) error {
	sections, err := chooseSections(names)
	if err != nil {
		return err
	}
	of, err := running.FindUnless(cmd.Context(), true)
	if err != nil {
		return err
	}
	if err := mustBeEncrypted(of); err != nil {
		return err
	}
	server, err := identify(of.Config)
	if err != nil {
		return err
	}
	service, err := o.service(of.Config, server)
	if err != nil {
		return err
	}
	if len(sections) > 1 {
		return writeSections(cmd.OutOrStdout(), sections, service)
	}
	text, err := sections[0].Text(service)
	if err != nil {
		return fmt.Errorf("%s: %w", sections[0].Name, err)
	}
	if name := sections[0].Name; !o.unsigned && (name == clientsetup.Apple || name == clientsetup.AppleTLS) {
		return writeProfile(cmd, []byte(text), server.chain, of.Config)
	}
	_, err = io.WriteString(cmd.OutOrStdout(), text)
	return err
}

// chooseSections returns the sections with the names; all if there is none.
func chooseSections(names []string) (chosen []clientsetup.Section, err error) {
	all := clientsetup.Sections()
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	for _, s := range all {
		known = append(known, s.Name)
	}
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			if near := spelling.Nearest(name, known); near != "" {
				return nil, fmt.Errorf("there are no settings for %q: did you mean %s?", name, near)
			}
			return nil, fmt.Errorf("there are no settings for %q: write one of %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// mustBeEncrypted returns an error that says which settings are missing if a server has no encrypted transport.
func mustBeEncrypted(of *running.Service) error {
	if of.Config.IsEncrypted() {
		return nil
	}
	return fmt.Errorf("no encrypted transport is configured (by %s): set REMPART_CERT and REMPART_KEY, or REMPART_ACME, and REMPART_TLS_LISTEN=:853 (Android, resolvers), REMPART_HTTPS_LISTEN=:443 (Apple, Windows, browsers) or both",
		of.From)
}

// identity is what clients check of a server.
type identity struct {
	name      string
	addresses []net.IP            // in its certificate
	chain     []*x509.Certificate // nil: an ACME authority issues it, perhaps later
}

// identify returns the identity of the server that c configures: that of the first certificate, or the first name for which certificates are requested.
func identify(c *config.Config) (identity, error) {
	if len(c.ACME) > 0 {
		return identity{name: c.ACME[0]}, nil
	}
	chain, err := certificates.ReadChain(c.Cert[0])
	if err != nil {
		return identity{}, err
	}
	_, name, err := certificates.OwnName(chain[0])
	if err != nil {
		return identity{}, fmt.Errorf("%s: %w", c.Cert[0], err)
	}
	return identity{name, chain[0].IPAddresses, chain}, nil
}

// service describes how clients reach the server that c configures.
func (o *clientSetup) service(c *config.Config, server identity) (s *clientsetup.Service, err error) {
	if o.link != "" {
		if u, err := url.Parse(o.link); err != nil || u.Scheme == "" {
			return nil, fmt.Errorf("--url %s: not a URL: write it like https://isp.example/rempart.mobileconfig", o.link)
		}
	}
	var given []netip.Addr
	for _, text := range o.addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("--address %s: not an IP address", text)
		}
		given = append(given, addr)
	}
	s = clientsetup.ServiceOf(c, server.name, server.addresses, given)
	s.Link = o.link
	return s, nil
}

// writeSections writes settings with headings. A profile is a file, so its section shows the command that prints the file.
func writeSections(out io.Writer, sections []clientsetup.Section, service *clientsetup.Service) error {
	for i, s := range sections {
		text, err := s.Text(service)
		switch missing := clientsetup.Missing(""); {
		case errors.As(err, &missing):
			text = "not available: " + missing.Error() + "\n"
		case err != nil:
			return fmt.Errorf("%s: %w", s.Name, err)
		case s.Name == clientsetup.Apple, s.Name == clientsetup.AppleTLS:
			text = "rempart client-setup " + s.Name + " > rempart.mobileconfig\n"
		}
		if i > 0 {
			fmt.Fprintln(out)
		}
		if _, err := fmt.Fprintf(out, "# %s: %s\n\n%s", s.Name, s.Title, text); err != nil {
			return err
		}
	}
	return nil
}

// writeProfile writes a profile, signed with the first certificate of the settings. If that is not possible, it writes the profile unsigned, and says why.
func writeProfile(cmd *cobra.Command, profile []byte, chain []*x509.Certificate, c *config.Config) error {
	if chain == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "the profile is not signed, and devices will say so: only the server uses the certificates of REMPART_ACME")
		_, err := cmd.OutOrStdout().Write(profile)
		return err
	}
	pair, err := certificates.LoadKeyPair(c.Cert[0], c.Key[0])
	signed := profile
	if err == nil {
		signed, err = clientsetup.Sign(profile, chain, pair.PrivateKey)
	}
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "the profile is not signed, and devices will say so: signing it with %s: %v\n", c.Key[0], err)
		_, err = cmd.OutOrStdout().Write(profile)
		return err
	}
	if f, ok := cmd.OutOrStdout().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return errors.New("a signed profile is no text: write it to a file (rempart client-setup apple > rempart.mobileconfig), or add --unsigned")
	}
	_, err = cmd.OutOrStdout().Write(signed)
	return err
}
