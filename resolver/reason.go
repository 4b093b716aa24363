package resolver

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"rempart/blocklist"
)

// reasonTexts are what a client can be told of a block.
type reasonTexts struct {
	plain string // EXTRA-TEXT beside a forged answer (RFC 8914)
	full  string // that of a structured error, all fields
	short string // the same without justification and organisation
}

// maxReasons is how many distinct entries' reasons are told in full; a view of more has the category told alone.
const maxReasons = 1 << 16

// maxListed bounds the names of lists in one reason, in octets.
const maxListed = 120

// reasons are the texts of one view's entries, each made when it is first needed and then kept: of millions of
// listed names few differ in what is claimed of them.
type reasons struct {
	stamp uint64
	texts []atomic.Pointer[reasonTexts]
}

// reason is what is told of the entry that decided a verdict under view.
func (r *Resolver) reason(view *blocklist.View, v blocklist.Verdict) *reasonTexts {
	b := &r.blocked
	category := &b.texts[min(int(v.Category), categories-1)]
	entries := view.Entries()
	if !b.sources || entries > maxReasons {
		return category
	}
	of := r.reasons.Load()
	if of == nil || of.stamp != view.Stamp() {
		of = &reasons{view.Stamp(), make([]atomic.Pointer[reasonTexts], entries)}
		r.reasons.Store(of)
	}
	n := view.EntryNumber(v)
	if n >= len(of.texts) {
		return category
	}
	if known := of.texts[n].Load(); known != nil {
		return known
	}
	entry, ok := view.Explain(nil, v)
	if !ok {
		return category
	}
	texts, err := b.explain(entry)
	if err != nil {
		return category
	}
	of.texts[n].Store(&texts)
	return &texts
}

// explain words an entry: its category, the lists that claim it, since when.
func (b *blockedAnswer) explain(e blocklist.Entry) (reasonTexts, error) {
	listed, more := "", 0
	for i, source := range e.Sources {
		if i > 0 && len(listed)+len(source) > maxListed {
			more++
			continue
		}
		if i > 0 {
			listed += ", "
		}
		listed += strings.ToValidUTF8(source[:min(len(source), maxListed)], "")
	}
	if more > 0 {
		listed = fmt.Sprintf("%s +%d", listed, more)
	}
	since, depuis := "", ""
	if e.Since > 0 {
		day := time.Unix(e.Since, 0).UTC().Format(time.DateOnly)
		since, depuis = " since "+day, " depuis le "+day
	}
	full, short, err := structured(e.Category, b.contact, b.organisation, fmt.Sprintf(" (%s%s)", listed, depuis))
	return reasonTexts{plain: fmt.Sprintf("%s: %s%s", e.Category, listed, since), full: full, short: short}, err
}
