package resolver

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/wire"
)

// reasonTexts are the texts for a client about a block.
type reasonTexts struct {
	plain string // EXTRA-TEXT next to a forged answer (RFC 8914)
	full  string // text of a structured error with all fields
	short string // text without justification and organisation

	decision string // ID of the decision behind the entry; "" for none, and in texts that name the category only
}

// maxReasons is the number of distinct entries whose full reasons are kept; further entries of a view give the category only.
const maxReasons = 1 << 16

// maxListed bounds the names of lists in one reason, in bytes.
const maxListed = 120

// maxTargets is the number of targets whose reasons are kept.
const maxTargets = 256

// reasons are the texts of one view's entries, each made when first needed and then kept: millions of listed names have few distinct facts. Texts that also
// name a target are kept in places chosen by the target's hash, where a newer one replaces the older.
type reasons struct {
	stamp   uint64
	texts   []atomic.Pointer[reasonTexts]
	targets [maxTargets]atomic.Pointer[targetReason]
	seed    maphash.Seed
}

// targetReason is the reason of an answer with a blocked target.
type targetReason struct {
	entry  int
	target leadsTo
	texts  reasonTexts
}

// reason returns the texts that name the entry which decided a verdict under view, on the question's own name or on a target.
func (r *Resolver) reason(view *blocklist.View, v blocklist.Verdict, why *cause) *reasonTexts {
	b := &r.blocked
	category := b.byCategory(v)
	if !b.sources && b.database == "" && b.orderPages == nil {
		return category
	}
	entries := view.Entries()
	if entries > maxReasons {
		return category
	}
	of := r.reasons.Load()
	if of == nil || of.stamp != view.Stamp() {
		of = &reasons{stamp: view.Stamp(), texts: make([]atomic.Pointer[reasonTexts], entries), seed: maphash.MakeSeed()}
		r.reasons.Store(of)
	}
	n := view.EntryNumber(v)
	if n >= len(of.texts) {
		return category
	}
	if why != nil && !why.target.isZero() {
		return b.targetReason(of, n, view, v, why.target, category)
	}
	if known := of.texts[n].Load(); known != nil {
		return known
	}
	entry, ok := view.Explain(nil, v)
	if !ok {
		return category
	}
	texts, err := b.explain(entry, leadsTo{})
	if err != nil {
		return category
	}
	of.texts[n].Store(&texts)
	return &texts
}

// targetReason returns the reason of entry n that also names the target.
func (b *blockedAnswer) targetReason(of *reasons, n int, view *blocklist.View, v blocklist.Verdict, target leadsTo, category *reasonTexts) *reasonTexts {
	place := &of.targets[target.hash(of.seed)%maxTargets]
	if known := place.Load(); known != nil && known.entry == n && known.target.equal(target) {
		return &known.texts
	}
	entry, ok := view.Explain(nil, v)
	if !ok {
		return category
	}
	target.name = bytes.Clone(target.name)
	texts, err := b.explain(entry, target)
	if err != nil {
		return category
	}
	made := &targetReason{n, target, texts}
	place.Store(made)
	return &made.texts
}

func (t leadsTo) isZero() bool { return t.name == nil && !t.addr.IsValid() }

func (t leadsTo) equal(o leadsTo) bool { return t.addr == o.addr && bytes.Equal(t.name, o.name) }

func (t leadsTo) hash(seed maphash.Seed) uint64 {
	if t.name == nil {
		return maphash.Comparable(seed, t.addr)
	}
	return maphash.Bytes(seed, t.name)
}

func (t leadsTo) String() string {
	if t.name == nil {
		return t.addr.String()
	}
	return wire.Text(t.name)
}

// explain returns an entry in words: its category, the lists that contain it, since when, and its target, unless that is the question's own name. Without
// b.sources, the words are the category only, and the structured error also has the decision.
func (b *blockedAnswer) explain(e blocklist.Entry, target leadsTo) (reasonTexts, error) {
	g := grounds{category: e.Category, mark: e.Mark, decision: e.ID}
	if !b.sources {
		full, short, err := b.structured(g)
		return reasonTexts{e.Category.String(), full, short, e.ID}, err
	}
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
	if !target.isZero() {
		since += "; it leads to " + target.String()
		depuis += ", pour " + target.String()
	}
	g.listed = fmt.Sprintf(" (%s%s)", listed, depuis)
	full, short, err := b.structured(g)
	return reasonTexts{plain: fmt.Sprintf("%s: %s%s", e.Category, listed, since), full: full, short: short, decision: e.ID}, err
}
