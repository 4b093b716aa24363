// Package firstrun sets a household's Rempart up: it asks a few questions, writes the settings, starts the service, and proves that it blocks.
package firstrun

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/machine"
	"rempart/cmd/rempart/running"
	"rempart/deploy"
	"rempart/internal/config"
	"rempart/resolver/upstream/transport"
)

// options are the flags of the command.
type options struct {
	yes, force, noStart          bool
	dir, listen, page, upstreams string
	lists                        string

	given func(flag string) bool // reports whether a flag was given
}

// Command returns the command "rempart setup".
func Command() *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use: "setup", Short: "Set up a household's server: questions, files, start, proof", Args: cli.NoArgs,
		Long: `Set up Rempart as the DNS server of a home network. It checks that no other program uses the addresses on which Rempart will answer, asks for the address of the warning page, the resolvers and the lists, writes
the settings, starts the service, and proves with a query that a test name is blocked.

Run again, it offers the earlier answers. It asks before it replaces a file that somebody changed, and keeps the old file beside the new one, with ".old" behind its name
(then ".old2" and so on). With --yes it asks nothing: each answer is its flag or its default, and changed files stay, unless --force replaces them. Run it as root.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.given = cmd.Flags().Changed
			s := &session{options: o, dialog: newDialog(cmd.InOrStdin(), cmd.OutOrStdout(), o.yes), system: newSystem()}
			return s.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.yes, "yes", false, "ask nothing, for scripts")
	f.BoolVar(&o.force, "force", false, "with --yes: replace changed files too, and keep them under other names")
	f.BoolVar(&o.noStart, "no-start", false, "write the files only")
	f.StringVar(&o.dir, "dir", filepath.Dir(running.SettingsFile), "folder of the files")
	f.StringVar(&o.listen, "listen", ":53", "addresses on which Rempart answers (REMPART_LISTEN)")
	f.StringVar(&o.page, "page", "", "IPv4 address of this machine in the home network, for the warning page (default: found)")
	f.StringVar(&o.upstreams, "upstreams", "", "resolvers to forward to (REMPART_UPSTREAMS), or \"network\" for those of this machine")
	f.StringVar(&o.lists, "lists", "all", "lists to use: \"all\", \"none\", or their numbers")
	return cmd
}

// session is one run of the command.
type session struct {
	options
	*dialog
	system system
}

// plan holds the settings that the answers determine.
type plan struct {
	page      string
	upstreams string // empty: those of this machine
	feeds     string // text of the feeds file
}

func (s *session) run(ctx context.Context) (err error) {
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	if err := makeFolder(s.dir); err != nil {
		return fmt.Errorf("%w: run it as root, or choose another folder with --dir", err)
	}
	if err := s.recall(); err != nil {
		return err
	}
	var addrs config.Addrs
	if err := addrs.UnmarshalText([]byte(s.listen)); err != nil || len(addrs) == 0 {
		return fmt.Errorf("the addresses %q (--listen, or REMPART_LISTEN in %s): write addresses such as :53 or 192.168.1.2:53, separated by commas", s.listen, s.file(settingsFile))
	}
	frees := false
	if !s.noStart {
		if frees, err = s.askForPort(addrs); err != nil {
			return err
		}
	}
	p, err := s.questions()
	if err != nil {
		return err
	}
	if err := s.writeFiles(p); err != nil {
		return err
	}
	if frees {
		if err := s.system.freePort(ctx); err != nil {
			return fmt.Errorf("turning the stub resolver of systemd-resolved off: %w", err)
		}
	}
	switch unit := s.system.hasSystemd() && s.system.hasUnit(); {
	case s.file(settingsFile) != s.system.path(running.SettingsFile) && (unit || s.noStart):
		s.say("Written. The service reads %s only: run Rempart with these settings by\n  set -a; . %s; set +a; rempart", running.SettingsFile, s.file(settingsFile))
		return nil
	case s.noStart:
		s.say("Written. Start Rempart when you are ready: systemctl enable --now rempart")
		return nil
	case !unit:
		s.say("Written. There is no unit here that starts Rempart: run it with these settings, for example\n  set -a; . %s; set +a; rempart", s.file(settingsFile))
		return nil
	}
	if err := s.system.start(ctx); err != nil {
		return fmt.Errorf("the service does not start: %w; \"journalctl -u rempart -n 20\" says why", err)
	}
	return s.proveStart(ctx, machine.Reachable(addrs[0]).String())
}

// proveStart checks that the new server blocks a test name at an address.
func (s *session) proveStart(ctx context.Context, at string) error {
	answer, err := prove(ctx, at)
	if err != nil {
		return fmt.Errorf("the service runs, but does not block yet: %w; \"rempart doctor\" says why", err)
	}
	s.say("It works: the test name phishing.test is blocked, and has %s.\nNow enter the address of this machine as DNS server in your router (DHCP settings). \"rempart doctor\" checks the installation at any time.", answer)
	return nil
}

// askForPort returns an error if a program other than systemd-resolved uses one of the addresses. If systemd-resolved does, it asks whether to turn the stub resolver
// off, and reports the answer.
func (s *session) askForPort(addrs []netip.AddrPort) (frees bool, err error) {
	owners, err := s.system.ownersOf(addrs)
	if err != nil || len(owners) == 0 {
		return false, nil // the start reports it if the port is taken
	}
	for _, name := range owners {
		if !strings.HasPrefix(name, "systemd-resolve") {
			return false, fmt.Errorf("%s uses an address on which Rempart would answer (--listen %s): stop that program, or choose other addresses with --listen", name, s.listen)
		}
	}
	s.say("systemd-resolved uses port 53 of this machine (127.0.0.53), for its stub resolver.")
	yes, err := s.confirm("Turn the stub resolver off? This machine then asks its resolvers directly", true)
	if err == nil && !yes {
		err = errors.New("port 53 stays taken: choose addresses that systemd-resolved does not use with --listen, such as 192.168.1.2:53")
	}
	return yes, err
}

// questions asks for the page's address, the resolvers and the lists.
func (s *session) questions() (p plan, err error) {
	page := s.page
	if page == "" {
		if page = "none"; homeAddress().IsValid() {
			page = homeAddress().String()
		}
	}
	if p.page, err = s.ask("Address of this machine in the home network, for the warning page", page, acceptPage); err != nil {
		return p, err
	}
	by := s.upstreams
	if by == "" {
		by = "network"
	}
	if p.upstreams, err = s.ask("Resolvers to ask (\"network\": those that this machine uses now)", by, acceptUpstreams); err != nil {
		return p, err
	}
	if p.upstreams == "network" {
		p.upstreams = ""
	}
	p.upstreams = strings.Join(strings.Fields(p.upstreams), "") // of "a, b"
	all, err := shippedFeeds()
	if err != nil {
		return p, err
	}
	s.say("Lists of malicious names:")
	for i := range all.feeds {
		s.say("  %d  %s", i+1, all.title(i))
	}
	lists, err := s.ask("Which ones (\"all\", \"none\", or numbers)", s.lists, func(text string) error {
		_, err := all.choose(text)
		return err
	})
	if err != nil {
		return p, err
	}
	chosen, err := all.choose(lists)
	p.feeds = all.text(chosen)
	return p, err
}

func acceptPage(text string) error {
	if addr, err := netip.ParseAddr(text); text != "none" && (err != nil || !addr.Is4()) {
		return fmt.Errorf("%q is not an IPv4 address: write one like 192.168.1.2, or \"none\" for no page", text)
	}
	return nil
}

func acceptUpstreams(text string) error {
	if text == "network" {
		return nil
	}
	for _, one := range strings.Split(text, ",") {
		if _, err := transport.ParseEndpoint(strings.TrimSpace(one)); err != nil {
			return fmt.Errorf("%q: %w", one, err)
		}
	}
	return nil
}

func (s *session) file(name string) string { return filepath.Join(s.dir, name) }

// settingsText returns the settings of a household with the answers of a plan, for the files in dir. The server accepts them, or there is an error.
func settingsText(p plan, listen, dir string) (string, error) {
	for _, v := range []struct{ value, from string }{{dir, "the folder (--dir)"}, {listen, "the addresses (--listen)"}, {p.upstreams, "the resolvers (--upstreams)"}} {
		if at := strings.IndexFunc(v.value, isSpecial); at >= 0 {
			return "", fmt.Errorf("%s: %q has the character %q, which the service manager, shells and containers read differently in a file of settings", v.from, v.value, v.value[at:at+1])
		}
	}
	raw, err := deploy.Household.ReadFile("household.env")
	if err != nil {
		return "", err
	}
	text := strings.ReplaceAll(string(raw), "=/etc/rempart/", "="+dir+"/")
	if strings.HasPrefix(text, freshMark) {
		_, text, _ = strings.Cut(text, "\n")
	}
	text = setVariable(text, "REMPART_LISTEN", listen)
	text = setVariable(text, "REMPART_PAGE_IPV4", p.page)
	if p.upstreams != "" {
		text = setVariable(text, "REMPART_UPSTREAMS", p.upstreams)
	}
	environ, err := config.ReadEnvFile(strings.NewReader(text))
	if err != nil {
		return "", err
	}
	environ[config.Prefix+"DATA_DIR"] = dir // the unit sets it
	_, err = config.LoadFrom(environ)
	return text, err
}

// isSpecial reports whether a character is not part of a value that everything that reads a file of settings reads as it is.
func isSpecial(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune("\"'`$\\;&|<>()", r)
}

// setVariable sets a variable in the text of a settings file, in place of its first line, commented out or not.
func setVariable(text, name, value string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimPrefix(line, "#"), name+"=") {
			lines[i] = name + "=" + value + "\n"
			return strings.Join(lines, "")
		}
	}
	return text + name + "=" + value + "\n"
}
