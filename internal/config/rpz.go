package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// RPZ is the set for resolvers that are not Rempart, from a control.
type RPZ struct {
	RPZListen    Addrs      `env:"RPZ_LISTEN" doc:"Addresses to serve response policy zones on, over TCP, and SOA over UDP. Empty: none."`
	RPZTLSListen Addrs      `env:"RPZ_TLS_LISTEN" doc:"The same over TLS (RFC 9103), with REMPART_PUSH_CERT."`
	RPZZones     RPZZones   `env:"RPZ_ZONES" envDefault:"rpz.rempart.example=page" doc:"Zones, separated by commas, as zone=answer or zone=answer:category+category: answers are \"page\" (CNAME to REMPART_RPZ_PAGE), \"nxdomain\" and \"nodata\"; without categories a zone holds all."`
	RPZPage      string     `env:"RPZ_PAGE" doc:"Name of the warning page, for zones that answer \"page\"."`
	RPZKeys      string     `env:"RPZ_KEYS" doc:"Path of the TSIG keys that may transfer zones: a line each, \"name algorithm secret\", the algorithm hmac-sha256, hmac-sha384 or hmac-sha512, the secret in base64."`
	RPZNotify    List       `env:"RPZ_NOTIFY" doc:"Resolvers to tell of new versions: addresses with ports, each with \"#key\" to sign with, separated by commas."`
	RPZKeyless   PrefixList `env:"RPZ_KEYLESS" doc:"Addresses that may transfer without a key, as prefixes: for resolvers that speak no TSIG (Unbound), on this machine or behind a tunnel."`
}

// PrefixList is Prefixes that may be none.
type PrefixList []netip.Prefix

// UnmarshalText reads them.
func (p *PrefixList) UnmarshalText(text []byte) error {
	if *p = nil; len(strings.TrimSpace(string(text))) == 0 {
		return nil
	}
	var all Prefixes
	err := all.UnmarshalText(text)
	*p = PrefixList(all)
	return err
}

// RPZZone is one zone.
type RPZZone struct {
	Name, Answer string
	Categories   []string // empty: all
}

// RPZZones are zones.
type RPZZones []RPZZone

// UnmarshalText reads them.
func (z *RPZZones) UnmarshalText(text []byte) error {
	*z = nil
	var items List
	_ = items.UnmarshalText(text)
	for _, item := range items {
		name, rest, ok := strings.Cut(item, "=")
		answer, categories, _ := strings.Cut(rest, ":")
		if !ok || name == "" || !slices.Contains([]string{"page", "nxdomain", "nodata"}, answer) {
			return fmt.Errorf("%q is not a zone: write rpz.example=nxdomain, or rpz.example=page:phishing+scam", item)
		}
		zone := RPZZone{Name: name, Answer: answer}
		if categories != "" {
			zone.Categories = strings.Split(categories, "+")
		}
		*z = append(*z, zone)
	}
	return nil
}

func (c *Config) checkRPZ(bad func(variable, right string)) {
	if len(c.RPZListen) == 0 && len(c.RPZTLSListen) == 0 {
		return
	}
	if len(c.RPZTLSListen) > 0 && c.PushCert == "" {
		bad("RPZ_TLS_LISTEN", "it needs a certificate: "+Prefix+"PUSH_CERT and "+Prefix+"PUSH_KEY")
	}
	if c.RPZPage == "" && slices.ContainsFunc(c.RPZZones, func(z RPZZone) bool { return z.Answer == "page" }) {
		bad("RPZ_PAGE", "a zone answers with the page: name it, like page.isp.example, or answer nxdomain or nodata")
	}
	if c.RPZKeys == "" && len(c.RPZKeyless) == 0 {
		bad("RPZ_KEYS", "zones are refused without a key: name a file of TSIG keys")
	}
}
