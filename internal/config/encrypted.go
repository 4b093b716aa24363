package config

import (
	"fmt"
	"net/netip"
)

// IsEncrypted reports whether a transport with TLS is configured.
func (e *Encrypted) IsEncrypted() bool {
	return len(e.TLSListen)+len(e.HTTPSListen)+len(e.QUICListen) > 0
}

// checkEncrypted checks the settings of the encrypted transports together with each other.
func (c *Config) checkEncrypted(bad func(variable, right string)) {
	switch {
	case len(c.Cert) != len(c.Key):
		bad("KEY", fmt.Sprintf("one path for each of the %d in %sCERT, in the same order", len(c.Cert), Prefix))
	case len(c.Cert) > 0 && len(c.ACME) > 0:
		bad("ACME", "certificates come either from files, which "+Prefix+"CERT and "+Prefix+"KEY name, or from an ACME authority: leave one of them empty")
	case len(c.Cert) == 0 && len(c.ACME) == 0 && c.IsEncrypted():
		bad("CERT", "the paths of a certificate chain and, in "+Prefix+"KEY, of its private key, or in "+Prefix+"ACME the names for which to request certificates: encrypted transports need them; for a trial without them, leave "+
			Prefix+"TLS_LISTEN, "+Prefix+"HTTPS_LISTEN and "+Prefix+"QUIC_LISTEN empty")
	}
	if len(c.BackendListen) > 0 && len(c.Proxies) == 0 {
		bad("DOH_BACKEND_LISTEN", "with "+Prefix+"PROXIES, the prefixes of the reverse proxies: only they may name clients")
	}
	c.checkACME(bad)
}

// checkListeners checks that each listener has an address or a port of its own.
func (c *Config) checkListeners(bad func(variable, right string)) {
	used := map[string]string{} // the variables by address; UDP and TCP apart
	for _, l := range []struct {
		variable string
		addrs    Addrs
		networks []string
	}{
		{"LISTEN", c.Listen, []string{"tcp", "udp"}}, {"PAGE_LISTEN", c.PageListen, []string{"tcp"}}, {"METRICS_LISTEN", c.MetricsListen, []string{"tcp"}},
		{"TLS_LISTEN", c.TLSListen, []string{"tcp"}}, {"HTTPS_LISTEN", c.HTTPSListen, []string{"tcp", "udp"}}, {"QUIC_LISTEN", c.QUICListen, []string{"udp"}},
		{"DOH_BACKEND_LISTEN", c.BackendListen, []string{"tcp"}}, {"PORTAL_LISTEN", c.PortalListen, []string{"tcp"}},
		{"PAGE_HTTPS_LISTEN", c.PageHTTPSListen, []string{"tcp", "udp"}}, // nothing may answer over UDP there
	} {
		for _, addr := range l.addrs {
			for _, network := range l.networks {
				other, taken := used[network+addr.String()]
				if taken && addr.Port() != 0 && other != l.variable {
					bad(l.variable, fmt.Sprintf("%s is in use by %s%s: each needs an address or a port of its own", addr, Prefix, other))
					break
				}
				used[network+addr.String()] = l.variable
			}
		}
	}
	c.checkPageHTTPS(bad)
}

// checkPageHTTPS checks that no encrypted transport covers an address on which https:// connections are refused: people would get the certificate of this resolver,
// and with it a warning of the browser. The same address in both is reported by checkListeners.
func (c *Config) checkPageHTTPS(bad func(variable, right string)) {
	for _, l := range []struct {
		variable string
		addrs    Addrs
	}{{"TLS_LISTEN", c.TLSListen}, {"HTTPS_LISTEN", c.HTTPSListen}, {"QUIC_LISTEN", c.QUICListen}} {
		for _, addr := range l.addrs {
			for _, page := range c.PageHTTPSListen {
				if addr != page && covers(addr, page) {
					bad("PAGE_HTTPS_LISTEN", fmt.Sprintf("%s%s is %s, which covers %s or is covered by it: write the addresses of the encrypted transport there, without those of the warning page", Prefix, l.variable, addr, page))
					return
				}
			}
		}
	}
}

// covers reports whether one of two addresses is the wildcard that includes the other.
func covers(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Port() != 0 && a.Addr().Is4() == b.Addr().Is4() && (a.Addr().IsUnspecified() || b.Addr().IsUnspecified())
}
