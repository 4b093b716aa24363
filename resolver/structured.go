package resolver

import (
	"encoding/json"
	"fmt"
	"strings"

	"rempart/blocklist"
)

// structuredError is the JSON object of draft-ietf-dnsop-structured-dns-error-22 section 4, and of draft-ietf-dnsop-filtering-transparency-00 section 2.2.
type structuredError struct {
	Contact       []string        `json:"c,omitempty"`
	Justification string          `json:"j,omitempty"`
	SubError      int             `json:"s,omitempty"`
	Organisation  string          `json:"o,omitempty"`
	Language      string          `json:"l,omitempty"`
	Databases     []databaseEntry `json:"fdbs,omitempty"`
}

// databaseEntry names a decision in a public database of filtering decisions.
type databaseEntry struct {
	Database string `json:"db"`
	Decision string `json:"id"`
}

// texts returns e with contact and organisation as JSON: with all fields, and without justification and organisation. The short text is empty if no field is
// left. A contact that is not a telephone number or a mail address is left out: clients ignore other schemes (registry "Contact URI Schemes" of the draft, which also
// contains sips), because whoever answers DNS queries must not choose a web page.
func (e structuredError) texts(contact, organisation string) (full, short string, err error) {
	if strings.HasPrefix(contact, "tel:") || strings.HasPrefix(contact, "mailto:") {
		e.Contact = []string{contact}
	}
	justification := e.Justification
	e.Justification = ""
	s, err := json.Marshal(e)
	if err != nil {
		return "", "", fmt.Errorf("writing a structured error: %w", err)
	}
	if short = string(s); short == "{}" {
		short = ""
	}
	e.Justification, e.Organisation, e.Language = justification, organisation, "fr"
	f, err := json.Marshal(e)
	if err != nil {
		return "", "", fmt.Errorf("writing a structured error: %w", err)
	}
	return string(f), short, nil
}

// grounds are what a structured error says about a block.
type grounds struct {
	category blocklist.Category
	mark     blocklist.Mark
	listed   string // lists and dates, to be added to the justification
	decision string // the ID of the decision behind the block, "" for none
}

func (b *blockedAnswer) structured(g grounds) (full, short string, err error) {
	e := structuredError{Justification: justification(g.category)}
	if g.listed != "" {
		e.Justification = strings.TrimSuffix(e.Justification, ".") + g.listed + "."
	}
	if g.mark != blocklist.Censored { // section 5.2
		e.SubError = subError(g.category)
	}
	if b.database != "" && g.decision != "" {
		e.Databases = []databaseEntry{{b.database, g.decision}}
	}
	return e.texts(b.contact, b.organisation)
}

func justification(c blocklist.Category) string {
	switch c {
	case blocklist.Malware:
		return "Ce nom diffuse des logiciels malveillants."
	case blocklist.Phishing:
		return "Ce nom sert à l'hameçonnage."
	case blocklist.Scam:
		return "Ce nom sert à des escroqueries."
	case blocklist.Botnet:
		return "Ce nom sert à commander des machines piratées."
	case blocklist.Stalkerware:
		return "Ce nom sert à espionner des personnes."
	}
	return "Ce nom est signalé comme malveillant."
}

// subError returns the sub-error code of a category (registry "DNS Sub-Error Codes" of the draft), 0 for none.
func subError(c blocklist.Category) int {
	switch c {
	case blocklist.Malware:
		return 1
	case blocklist.Phishing:
		return 2
	case blocklist.Stalkerware:
		return 4 // spyware
	}
	return 0
}
