// Package explain describes a block in the language of the reader. The warning page and the portal show the same description.
package explain

import (
	_ "embed"
	"html/template"

	"rempart/blocklist"
	"rempart/internal/web/authority"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/texts"
)

// Template defines the template "known", which shows a Block as a table. Its argument is a *Block.
//
//go:embed known.html
var Template string

// Block describes a block. Empty fields are unknown.
type Block struct {
	Lang      *texts.Language // of all texts except those of the authority
	Name      string          // as readers write it
	Target    string          // the name or address in the answer that is blocked; "": the name itself
	Reason    template.HTML   // one sentence: who blocked it, and why
	Category  string
	Ground    string // the legal ground
	Decider   string // who decided
	Authority *Authority
	Lists     []string
	Entry     string
	Decision  string
	Since     string
	Until     string
	Version   uint64
	InDetail  bool // Template also shows the ground, the entry and the version
}

// Authority is the information of an authority about its decisions.
type Authority struct {
	Lang string // of Text
	Text string
	Link string
}

// Of describes the block of a name. organisation is the name of the organisation that runs this filter; of is the authority of the decision, nil if no file
// names it.
func Of(found *lookup.Result, lang *texts.Language, organisation string, of *authority.Authority) *Block {
	category := lang.CategoryOf(found.Category)
	b := &Block{
		Lang: lang, Name: layout.DisplayName(found.Name), Target: layout.DisplayName(found.Target), Category: category.Noun, Decider: organisation,
		Lists: found.Lists, Entry: found.Entry, Decision: found.Decision, Until: lang.Page.NoEnd, Version: found.Version,
	}
	why := category.Why
	switch found.Mark {
	case blocklist.Censored:
		b.Ground, why = lang.Portal.GroundCensored, lang.Page.Ordered
		b.Decider = lang.Portal.GroundCensored // replaced below by the name of the authority, if a file names it
	case blocklist.Filtered:
		b.Ground, why = lang.Portal.GroundFiltered, lang.Page.Requested
	default:
		b.Ground = lang.Portal.GroundBlocked
	}
	b.Reason, _ = layout.Fill(why, "organisation", organisation) // the texts were checked when they were loaded
	if !found.Since.IsZero() {
		b.Since = lang.FormatDate(found.Since)
	}
	if !found.Until.IsZero() {
		b.Until = lang.FormatDate(found.Until)
	}
	if of != nil {
		b.Decider, b.Authority = of.Name, &Authority{Link: of.Link}
		b.Authority.Lang, b.Authority.Text, _ = texts.Closest(of.Text, lang.Tag)
	}
	return b
}
