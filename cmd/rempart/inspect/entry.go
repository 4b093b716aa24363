package inspect

import (
	"fmt"
	"slices"
	"strings"

	"rempart/blocklist"
)

// entryJSON is an entry of the set for --json.
type entryJSON struct {
	Decision  string   `json:"decision"` // block, allow, except
	Scope     string   `json:"scope"`
	Category  string   `json:"category,omitempty"`
	Since     string   `json:"since,omitempty"` // dates
	Start     string   `json:"start,omitempty"`
	Expiry    string   `json:"expiry,omitempty"`
	ID        string   `json:"id,omitempty"`
	HasQuorum bool     `json:"counts"` // whether enough lists agree
	Lists     []string `json:"lists"`
}

func describeEntry(e blocklist.Entry) entryJSON {
	c := entryJSON{
		Decision: e.Decision.String(), Scope: e.Scope.String(), Since: day(e.Since), Start: day(e.Start), Expiry: day(e.Expiry),
		ID: e.ID, HasQuorum: e.HasQuorum, Lists: slices.Sorted(slices.Values(e.Sources)),
	}
	if e.Decision == blocklist.Block {
		c.Category = e.Category.String()
	}
	return c
}

func describeEntries(entries []blocklist.Entry) []entryJSON {
	claims := make([]entryJSON, 0, len(entries))
	for _, e := range entries {
		claims = append(claims, describeEntry(e))
	}
	return claims
}

// text describes an entry without its lists: "phishing, with all below, until 2027-01-02".
func (c entryJSON) text() string {
	words := []string{c.Category}
	switch c.Decision {
	case "allow":
		words[0] = "allowed"
	case "except":
		words[0] = "excepted from its list's blocks"
	}
	words = append(words, map[string]string{
		blocklist.Exact.String(): "itself", blocklist.Below.String(): "only the names below", blocklist.Subtree.String(): "with all below",
	}[c.Scope])
	if c.Start != "" {
		words = append(words, "from "+c.Start)
	}
	if c.Expiry != "" {
		words = append(words, "until "+c.Expiry)
	}
	if c.ID != "" {
		words = append(words, "decision "+c.ID)
	}
	if !c.HasQuorum {
		words = append(words, "not in effect: too few lists agree")
	}
	return strings.Join(words, ", ")
}

func (c entryJSON) String() string {
	return fmt.Sprintf("%s (%s)", c.text(), strings.Join(c.Lists, ", "))
}
