// Package authority reads the file of REMPART_AUTHORITIES: the authorities that order blocks, with the text and the link that pages show for their decisions,
// and with the addresses of a page of the authority's own, which DNS answers contain.
package authority

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"rempart/blocklist"
	"rempart/internal/tomlfile"
)

// Authority is an authority with the information that it prescribes for its decisions.
type Authority struct {
	Name      string            `toml:"name"`
	Decisions []string          `toml:"decisions"` // IDs of its decisions; "arcom-*" is every ID that begins with "arcom-"
	Link      string            `toml:"link"`      // https URL of the authority's own page; "" for none
	Text      map[string]string `toml:"text"`      // for readers, by language tag
	IPv4      netip.Addr        `toml:"ipv4"`      // of the authority's own page, for DNS answers; if IPv6 is not valid either: those of the warning page
	IPv6      netip.Addr        `toml:"ipv6"`
}

// Table holds the authorities of a file. It is immutable. A nil *Table holds none.
type Table struct{ all []Authority }

// Parse reads a file of authorities (TOML). The error names the authority and the key.
func Parse(data []byte) (*Table, error) {
	var file struct {
		Authority []Authority `toml:"authority"`
	}
	if err := tomlfile.Decode(data, &file); err != nil {
		return nil, err
	}
	for i := range file.Authority {
		if err := file.Authority[i].check(); err != nil {
			return nil, fmt.Errorf("authority %d (%.100q): %w", i+1, file.Authority[i].Name, err)
		}
	}
	return &Table{file.Authority}, nil
}

func (a *Authority) check() error {
	switch {
	case a.Name == "" || len(a.Name) > 200:
		return errors.New("name: 1 to 200 bytes")
	case len(a.Decisions) == 0:
		return errors.New(`decisions: at least one ID, like "2026-114" or "arcom-*"`)
	case a.IPv4.IsValid() && !a.IPv4.Is4():
		return errors.New("ipv4: an IPv4 address")
	case a.IPv6.IsValid() && (!a.IPv6.Is6() || a.IPv6.Is4In6() || a.IPv6.Zone() != ""):
		return errors.New("ipv6: an IPv6 address without a zone")
	}
	for _, id := range a.Decisions {
		if prefix, _ := strings.CutSuffix(id, "*"); prefix == "" || len(id) > 100 || strings.Contains(prefix, "*") {
			return fmt.Errorf("decisions: %.100q: an ID of at most 100 bytes; only its end may be *", id)
		}
	}
	if u, err := url.Parse(a.Link); a.Link != "" && (err != nil || u.Scheme != "https" || u.Host == "" || len(a.Link) > 1000) {
		return errors.New("link: a URL that begins with https://")
	}
	for tag, text := range a.Text {
		if text == "" || len(text) > 2000 || len(tag) > 35 {
			return fmt.Errorf("text.%.35s: 1 to 2000 bytes", tag)
		}
	}
	return nil
}

// Of returns the authority of a decision; nil if there is none. The first one in the file wins.
func (t *Table) Of(decision string) *Authority {
	if t == nil {
		return nil
	}
	for i := range t.all {
		for _, id := range t.all[i].Decisions {
			if blocklist.MatchesDecision(id, decision) {
				return &t.all[i]
			}
		}
	}
	return nil
}
