package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// PrefixList are Prefixes that may be empty.
type PrefixList []netip.Prefix

// UnmarshalText reads prefixes; empty text is none.
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

// RPZZones are the configured policy zones.
type RPZZones []RPZZone

// UnmarshalText reads zones, separated by commas.
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
