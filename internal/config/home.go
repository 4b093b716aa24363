package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// NAT64 are prefixes of NAT64 (RFC 6052).
type NAT64 []netip.Prefix

// UnmarshalText reads prefixes.
func (n *NAT64) UnmarshalText(text []byte) error {
	*n = nil
	var items List
	_ = items.UnmarshalText(text)
	for _, item := range items {
		p, err := netip.ParsePrefix(item)
		if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() || !slices.Contains([]int{32, 40, 48, 56, 64, 96}, p.Bits()) {
			return fmt.Errorf("%q is no prefix of NAT64: write an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, like 2001:db8:64::/96", item)
		}
		*n = append(*n, p.Masked())
	}
	return nil
}

// Canary is the set of canary names that do not exist here.
type Canary struct{ Firefox, ICloud bool }

// UnmarshalText reads a list of words.
func (c *Canary) UnmarshalText(text []byte) error {
	*c = Canary{}
	var words List
	_ = words.UnmarshalText(text)
	for _, word := range words {
		switch word {
		case "firefox":
			c.Firefox = true
		case "icloud":
			c.ICloud = true
		case none:
			if len(words) > 1 {
				return errors.New(`"none" stands alone`)
			}
		default:
			return fmt.Errorf(`%q is not known: "firefox", "icloud" or both, separated by a comma, or "none"`, word)
		}
	}
	if len(words) == 0 {
		c.Firefox = true
	}
	return nil
}

// SingleLabels is the treatment of names of one label: forwarded, or kept here.
type SingleLabels bool

// KeepSingleLabels answers names of one label here.
const KeepSingleLabels SingleLabels = true

// UnmarshalText reads "forward" or "keep".
func (s *SingleLabels) UnmarshalText(text []byte) error { return choose(s, text, "forward", "keep") }

// NXDomain is whether an upstream's NXDOMAIN also denies the names below.
type NXDomain bool

// DenySubtree denies all names below a name that does not exist.
const DenySubtree NXDomain = true

// UnmarshalText reads "exact" or "subtree"; empty text is "exact".
func (n *NXDomain) UnmarshalText(text []byte) error { return choose(n, text, "exact", "subtree") }

// Rebinding is whether answers of public names may contain local addresses.
type Rebinding bool

// RefuseRebinding withholds answers of public names that contain local addresses.
const RefuseRebinding Rebinding = true

// UnmarshalText reads "allow" or "refuse".
func (r *Rebinding) UnmarshalText(text []byte) error { return choose(r, text, "allow", "refuse") }

// Clients are the clients that may ask.
type Clients struct {
	Prefixes Prefixes
	OnLink   bool // also the networks that this machine is in
}

// onLink is the word for OnLink among the prefixes of Clients.
const onLink = "on-link"

// UnmarshalText reads prefixes and the word on-link.
func (c *Clients) UnmarshalText(text []byte) error {
	*c = Clients{}
	var items List
	_ = items.UnmarshalText(text)
	prefixes := ""
	for _, item := range items {
		if item == onLink {
			c.OnLink = true
			continue
		}
		prefixes += item + ","
	}
	if c.OnLink && prefixes == "" {
		return nil
	}
	return c.Prefixes.UnmarshalText([]byte(prefixes))
}
