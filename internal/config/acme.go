package config

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// checkACME checks the settings of the ACME authority.
func (c *Config) checkACME(bad func(variable, right string)) {
	if u, err := url.Parse(c.ACMECA); err != nil || u.Scheme != "https" || u.Host == "" {
		bad("ACME_CA", "the https URL of the directory of an ACME authority, like https://acme-v02.api.letsencrypt.org/directory")
	}
	if c.ACMEEmail != "" {
		if a, err := mail.ParseAddress(c.ACMEEmail); err != nil || a.Address != c.ACMEEmail {
			bad("ACME_EMAIL", "an e-mail address like dns@isp.example")
		}
	}
	switch {
	case len(c.ACME) == 0:
	case !c.IsEncrypted() && len(c.PortalListen) == 0:
		bad("ACME", "set "+Prefix+"TLS_LISTEN=:853, "+Prefix+"HTTPS_LISTEN=:443 or "+Prefix+"PORTAL_LISTEN=:443: no listener uses the certificates")
	case len(c.TLSListen)+len(c.HTTPSListen)+len(c.PortalListen)+len(c.PageListen) == 0:
		bad("ACME", "the authority checks the names over TLS on port 443 or over HTTP on port 80: set "+Prefix+"HTTPS_LISTEN=:443 or "+Prefix+"PAGE_LISTEN=:80")
	}
}

// maxHostName is the largest length of a host name as text (RFC 1035 section 2.3.4).
const maxHostName = 253

// HostNames are names of this server, in lower case and without a trailing dot.
type HostNames []string

// hostName matches a host name of at least two labels.
var hostName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// HostName is a host name of at least two labels, in lower case.
type HostName string

// UnmarshalText reads a name.
func (h *HostName) UnmarshalText(text []byte) error {
	name := strings.ToLower(strings.TrimSuffix(string(text), "."))
	if _, err := netip.ParseAddr(name); err == nil || len(name) > maxProbe || !hostName.MatchString(name) {
		return fmt.Errorf("not a host name of two labels or more and at most %d characters: write it like probe.isp.example", maxProbe)
	}
	*h = HostName(name)
	return nil
}

// maxProbe leaves room for a blocked name and a token before a name.
const maxProbe = 100

// UnmarshalText reads names.
func (h *HostNames) UnmarshalText(text []byte) error {
	*h = nil
	var items List
	_ = items.UnmarshalText(text)
	for _, item := range items {
		name := strings.ToLower(strings.TrimSuffix(item, "."))
		switch _, err := netip.ParseAddr(name); {
		case err == nil:
			return fmt.Errorf("%s is an IP address: Rempart requests certificates for names only; to use a certificate that contains addresses, get it with another program, and set %sCERT", item, Prefix)
		case strings.HasPrefix(name, "*"):
			return fmt.Errorf("%s is a wildcard: name this server only; to use a certificate with a wildcard, get it with another program, and set %sCERT", item, Prefix)
		case len(name) > maxHostName || !hostName.MatchString(name):
			return fmt.Errorf("%q is not a host name: write it like dns.example.org, and an international name in its ASCII form (xn--)", item)
		case slices.Contains(*h, name):
			return fmt.Errorf("%s is named twice", name)
		}
		*h = append(*h, name)
	}
	return nil
}
