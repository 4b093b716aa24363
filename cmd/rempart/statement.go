package main

import (
	"slices"

	"rempart/internal/config"
	"rempart/internal/web/lookup"
	"rempart/internal/web/statement"
	"rempart/internal/wire"
)

// statement returns the facts of the privacy statement, from the settings in effect.
func (s *server) statement() statement.Facts {
	c := s.config
	f := statement.Facts{
		Organisation: c.Organisation, Contact: c.Contact, IsObserving: c.Mode == config.Observe, HasPage: c.BlockAnswer == "page",
		HasControl: c.Control != "", HasCookies: s.cookies.Secrets() != nil, IsRestricted: len(c.Clients.Prefixes) > 0 || c.Clients.OnLink,
	}
	if c.Dnstap.Addr != nil {
		f.TapSample = c.DnstapSample
		f.TapClients = map[config.DnstapClients]statement.TapClients{"cut": statement.CutClients, "keyed": statement.KeyedClients}[c.DnstapClients]
	}
	if s.continues.MayContinue() {
		f.Continue = c.Continue
	}
	if s.control != nil && s.control.appeals != nil {
		f.Appeals = s.control.appeals.Get().Retention
	}
	for _, l := range s.lists.Status().Lists {
		if l.Name != c.Allow {
			f.Lists = append(f.Lists, lookup.ListName(l.Name))
		}
	}
	for _, addr := range s.dnsAt {
		if a := addr.Addr(); !a.IsUnspecified() && !slices.Contains(f.Addresses, a.String()) {
			f.Addresses = append(f.Addresses, a.String())
		}
	}
	for _, t := range s.encryptedAt {
		switch t.transport {
		case wire.TLS:
			f.HasTLS = true
		case wire.HTTPS:
			f.HasHTTPS = true
		case wire.QUIC:
			f.HasQUIC = true
		}
	}
	f.IsEncrypted = true
	for _, u := range s.forward.Main.Stats().Upstreams {
		f.Upstreams = append(f.Upstreams, config.Redact(u.Upstream))
		f.IsEncrypted = f.IsEncrypted && slices.Contains([]string{"tls", "https", "quic"}, u.Protocol)
	}
	f.IsEncrypted = f.IsEncrypted && len(f.Upstreams) > 0
	return f
}
