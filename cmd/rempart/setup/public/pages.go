// Package public makes the pages that the public sees from the settings: the warning page and the portal.
package public

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"

	"rempart/cmd/rempart/clientsetup"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/appeal"
	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/internal/tomlfile"
	"rempart/internal/web/authority"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/onward"
	"rempart/internal/web/portal"
	"rempart/internal/web/probezone"
	"rempart/internal/web/statement"
	"rempart/internal/web/texts"
	"rempart/internal/web/warning"
	"rempart/resolver/listen/proxyproto"
)

// Answers holds the functions by which the pages learn about names. They are called concurrently.
type Answers struct {
	// Lookup returns what queries for a canonical name get. client is the reader.
	Lookup func(ctx context.Context, name []byte, client netip.Addr) lookup.Result
	// History returns the past changes of a name, the newest first; nil if there is no journal here.
	History    func(ctx context.Context, name string) ([]portal.Event, error)
	Links      *onward.Links          // by which readers continue to a blocked name; nil if nobody may
	Appeals    portal.Appeals         // nil: requests for a review are not accepted here
	Devices    func() portal.Devices  // returns how devices use this server; nil if this process answers no DNS
	Statement  func() statement.Facts // returns what the privacy statement says; nil if this process answers no DNS
	Statistics string                 // folder of the public statistics; "" for none
	IsHome     bool                   // the lists are chosen on this machine
}

// check returns the function that makes the address of the check of the connection; nil if this process answers no DNS or serves no page.
func (a *Answers) check(c *config.Config) func(lang string) string {
	if a.Devices == nil || len(c.PageListen) == 0 {
		return nil
	}
	return func(lang string) string { return probezone.Start(string(c.Probe), lang) }
}

// Pages are the pages that the public sees.
type Pages struct {
	Warning http.Handler
	Portal  http.Handler // nil without REMPART_PORTAL_LISTEN

	authorities *reload.Value[*authority.Table] // nil: no authority has a page of its own
	help        *reload.Value[*texts.Help]      // nil: the help for France
}

// New makes the pages.
func New(c *config.Config, log *slog.Logger, from Answers) (*Pages, error) {
	p := &Pages{}
	var err error
	if p.authorities, err = open(log, "AUTHORITIES", c.Authorities, authority.Parse); err != nil {
		return nil, err
	}
	if p.help, err = open(log, "HELP", c.Help, texts.ParseHelp); err != nil {
		return nil, err
	}
	site, err := layout.New(c.Organisation)
	if err != nil {
		return nil, err
	}
	page, err := warning.New(warning.Config{
		Site: site, Lookup: from.Lookup, Authorities: p.authorities.Get, Help: p.help.Get, Contact: c.Contact, Portal: c.Portal, IsHome: from.IsHome, Offer: from.Links.Offer,
	})
	if err != nil {
		return nil, err
	}
	zone, err := probezone.New(probezone.Config{Site: site, Zone: string(c.Probe), Links: from.Links, Duration: c.Continue, Wait: c.BlockTTL})
	if err != nil {
		return nil, err
	}
	p.Warning = behind(proxyproto.Proxies(c.Proxies), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if zone.Handles(r.Host) {
			zone.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	}))
	if len(c.PortalListen) == 0 {
		return p, nil
	}
	public, err := portal.New(portal.Config{
		Site: site, Parse: report.ParseName, Lookup: from.Lookup, History: from.History, Authorities: p.authorities.Get, Appeals: from.Appeals, Address: c.Portal,
		Devices: from.Devices, QRCode: clientsetup.QRPath, Statement: from.Statement, Statistics: from.Statistics, Check: from.check(c), Contact: c.Contact, IsHome: from.IsHome,
	})
	if err != nil {
		return nil, err
	}
	p.Portal = behind(proxyproto.Proxies(c.Proxies), public)
	return p, nil
}

// behind returns a handler to which a request from a proxy appears as one from the client that the proxy names; from an unknown client if it names none.
func behind(proxies proxyproto.Proxies, h http.Handler) http.Handler {
	if len(proxies) == 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := lookup.Client(r)
		if !proxies.Has(from) {
			h.ServeHTTP(w, r)
			return
		}
		own := *r
		own.RemoteAddr = ""
		if client := proxyproto.Forwarded(r.Header.Values("Forwarded"), r.Header.Values("X-Forwarded-For")); client.IsValid() {
			own.RemoteAddr = netip.AddrPortFrom(client, 0).String()
		}
		h.ServeHTTP(w, &own)
	})
}

// open loads a file; nil if path is empty. variable names the setting, without prefix.
func open[T any](log *slog.Logger, variable, path string, parse func([]byte) (T, error)) (*reload.Value[T], error) {
	if path == "" {
		return nil, nil
	}
	value, err := reload.New(log, config.Prefix+variable, []string{path}, func() (none T, err error) {
		data, err := durable.ReadRegular(path, tomlfile.MaxSize)
		if err != nil {
			return none, err
		}
		return parse(data)
	})
	if err != nil {
		return nil, config.Bad(variable, path, err.Error())
	}
	return value, nil
}

// Check reads the files that the settings name, and returns the error of each that cannot be used.
func Check(c *config.Config, log *slog.Logger) error {
	_, authoritiesErr := open(log, "AUTHORITIES", c.Authorities, authority.Parse)
	_, helpErr := open(log, "HELP", c.Help, texts.ParseHelp)
	_, appealsErr := AppealPolicy(c, log)
	return errors.Join(authoritiesErr, helpErr, appealsErr)
}

// AppealPolicy loads how appeals are handled; nil without REMPART_APPEALS.
func AppealPolicy(c *config.Config, log *slog.Logger) (*reload.Value[*appeal.Policy], error) {
	return open(log, "APPEALS", c.Appeals, appeal.ParsePolicy)
}

// OrderPages returns the addresses of the page that an authority prescribes for its decision; invalid ones for none. It is resolver.Config.OrderPages; nil if no
// file names authorities.
func (p *Pages) OrderPages() func(decision string) (ipv4, ipv6 netip.Addr) {
	if p.authorities == nil {
		return nil
	}
	return func(decision string) (ipv4, ipv6 netip.Addr) {
		if a := p.authorities.Get().Of(decision); a != nil {
			return a.IPv4, a.IPv6
		}
		return ipv4, ipv6
	}
}

// Files returns the files that are loaded again when they change.
func (p *Pages) Files() (all reload.Files) {
	if p.authorities != nil {
		all = append(all, p.authorities)
	}
	if p.help != nil {
		all = append(all, p.help)
	}
	return all
}
