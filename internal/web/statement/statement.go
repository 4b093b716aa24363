// Package statement writes the privacy statement of a running server from its settings, with the structure of RFC 8932 section 6.1, and its security.txt.
package statement

import (
	"bytes"
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

//go:embed *.toml
var files embed.FS

// Facts are the facts in the statement, which follow from the settings in effect.
type Facts struct {
	Organisation string
	Contact      string // URI; "" for none

	IsObserving bool
	HasPage     bool          // blocked queries get the address of the warning page
	Lists       []string      // as readers know them
	HasControl  bool          // the set comes from control
	Continue    time.Duration // for which a person may continue past a warning; 0: never
	Appeals     time.Duration // after which a request for a review is deleted; 0: none are accepted

	HasCookies bool
	TapSample  int        // one answer in so many is sent to a collector; 0: none
	TapClients TapClients // of that sample

	Addresses    []string // of DNS without encryption
	HasTLS       bool
	HasHTTPS     bool
	HasQUIC      bool
	IsRestricted bool // only some networks may ask
	Upstreams    []string
	IsEncrypted  bool // on the way to all upstreams
}

// TapClients is how addresses of clients appear in the sample of answers.
type TapClients uint8

const (
	NoClients TapClients = iota
	CutClients
	KeyedClients
)

// Section is a part of the statement.
type Section struct {
	Title      string
	IsChapter  bool // it only groups the sections that follow
	Paragraphs []string
}

// Texts are the texts of the statement in one language.
type Texts map[string]string

// Load returns the texts by language tag. The error names the keys that a language lacks.
func Load() (map[string]Texts, error) {
	all := map[string]Texts{}
	for _, tag := range []string{"fr", "en"} {
		data, err := files.ReadFile(tag + ".toml")
		if err != nil {
			return nil, err
		}
		t := Texts{}
		if err := toml.NewDecoder(bytes.NewReader(data)).Decode(&t); err != nil {
			return nil, fmt.Errorf("the statement in %s: %w", tag, err)
		}
		all[tag] = t
	}
	fr, en := slices.Sorted(maps.Keys(all["fr"])), slices.Sorted(maps.Keys(all["en"]))
	if !slices.Equal(fr, en) {
		return nil, fmt.Errorf("the statement has the keys %q in French and %q in English", fr, en)
	}
	return all, nil
}

// Title returns the title of the statement.
func (t Texts) Title() string { return t["title"] }

// Intro returns the first paragraph of the statement.
func (t Texts) Intro() string { return t["intro"] }

// Write returns the statement about f.
func (t Texts) Write(f *Facts) []Section {
	return []Section{
		{Title: t["policy"], IsChapter: true},
		t.section("addresses", t.addresses(f)...),
		t.section("collection", t.collection(f)...),
		t.section("exceptions", t["order_exception"]),
		t.section("associated", t.choose(f.HasControl, "control_on", "control_off")),
		t.section("correlation", t["no_correlation"]),
		t.section("filtering", t.filtering(f)...),
		{Title: t["practice"], IsChapter: true},
		t.section("deviations", t["no_deviations"]),
		t.section("client", t.client(f)...),
		t.section("upstream", t.fill("forwards", "upstreams", strings.Join(f.Upstreams, ", ")), t.choose(f.IsEncrypted, "upstreams_encrypted", "upstreams_plain"), t["dnssec"]),
		t.section("support", t.support(f)),
		t.section("processing", t.fill("operator", "organisation", f.Organisation)),
	}
}

func (t Texts) section(title string, paragraphs ...string) Section {
	return Section{Title: t[title], Paragraphs: paragraphs}
}

func (t Texts) choose(yes bool, ifSo, otherwise string) string {
	if yes {
		return t[ifSo]
	}
	return t[otherwise]
}

func (t Texts) fill(key, word, value string) string {
	return strings.ReplaceAll(t[key], "{"+word+"}", value)
}

func (t Texts) addresses(f *Facts) []string {
	all := []string{t["no_addresses"], t["memory_only"]}
	if f.HasCookies {
		all = append(all, t["cookies"])
	}
	return all
}

func (t Texts) collection(f *Facts) []string {
	all := []string{t["no_log"], t["no_sale"]}
	if f.TapSample == 0 {
		all = append(all, t["tap_off"])
	} else {
		all = append(all, t.fill("tap_on", "sample", fmt.Sprint(f.TapSample))+" "+t[map[TapClients]string{NoClients: "tap_none", CutClients: "tap_cut", KeyedClients: "tap_keyed"}[f.TapClients]])
	}
	grants := t["grants_off"]
	if f.Continue > 0 {
		grants = t.fill("grants_on", "time", text(f.Continue))
	}
	appeals := t["appeals_off"]
	if f.Appeals > 0 {
		appeals = t.fill("appeals_on", "time", text(f.Appeals))
	}
	return append(all, grants, appeals)
}

// text returns a duration in units that need no translation.
func text(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d d", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d min", d/time.Minute)
}

func (t Texts) filtering(f *Facts) []string {
	if f.IsObserving {
		return []string{t["mode_observe"]}
	}
	all := []string{t["mode_enforce"], t.choose(f.HasPage, "answer_page", "answer_other")}
	switch {
	case f.HasControl:
	case len(f.Lists) == 0:
		all = append(all, t["no_lists"])
	default:
		all = append(all, t.fill("lists", "lists", strings.Join(f.Lists, ", ")))
	}
	return append(all, t["ordered"])
}

func (t Texts) client(f *Facts) (all []string) {
	if len(f.Addresses) > 0 {
		all = append(all, t.fill("unencrypted", "addresses", strings.Join(f.Addresses, ", ")))
	}
	for _, one := range []struct {
		key       string
		isOffered bool
	}{{"https", f.HasHTTPS}, {"quic", f.HasQUIC}, {"tls", f.HasTLS}, {"no_encryption", !f.HasTLS && !f.HasHTTPS && !f.HasQUIC}} {
		if one.isOffered {
			all = append(all, t[one.key])
		}
	}
	if f.IsRestricted {
		all = append(all, t["restricted"])
	}
	return all
}

func (t Texts) support(f *Facts) string {
	if f.Contact == "" {
		return t.fill("contact_none", "organisation", f.Organisation)
	}
	return t.fill("contact_some", "contact", strings.TrimPrefix(strings.TrimPrefix(f.Contact, "mailto:"), "tel:"))
}

// securityValid is how long a security.txt is valid (RFC 9116 section 2.5.5 recommends less than a year).
const securityValid = 180 * 24 * time.Hour

// SecurityTxt returns the security.txt of the site (RFC 9116); "" without a contact, which it must have.
func SecurityTxt(contact string, now time.Time) string {
	if contact == "" {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Contact: %s\nExpires: %s\nPreferred-Languages: fr, en\n", contact, now.Add(securityValid).UTC().Truncate(24*time.Hour).Format(time.RFC3339))
	return b.String()
}
