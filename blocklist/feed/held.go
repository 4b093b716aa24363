package feed

import (
	"fmt"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/feed/store"
	"rempart/blocklist/guard"
)

// maxHeld and maxRefused are the numbers of entries that are stored for people to read, for each list and guard or reason. Further entries are
// only counted.
const (
	maxHeld    = 2000
	maxRefused = 50
)

// rejections collects the listings that guards refuse or hold, and the lines that are not understood, while a list is read.
type rejections struct {
	entries  []store.Held
	byGuard  [guard.GuardCount][2]int // by outcome: refused, held
	byReason format.Refusals
}

// admits reports whether a listing is in effect: no guard refuses or holds it, or a person released it.
func (h *rejections) admits(g *guardfile.Guards, line int, l blocklist.Listing) bool {
	f := g.Check(l)
	if f.Outcome == guard.Pass || f.Outcome == guard.Hold && g.IsReleased(l) {
		return true
	}
	n := &h.byGuard[f.Guard][f.Outcome-guard.Refuse]
	if *n++; *n > maxHeld {
		return false
	}
	e := store.Held{Line: line, Outcome: f.Outcome.String(), Guard: f.Guard.String(), Why: f.Explain(l.Name)}
	if l.Prefix.IsValid() {
		e.Name = l.Prefix.String()
	} else {
		e.Name = blocklist.NameText(l.Name)
		e.Rank, _ = g.Rank(l.Name)
	}
	h.entries = append(h.entries, e)
	return false
}

// addRefused adds a line that was not understood.
func (h *rejections) addRefused(line int, why format.Reason) {
	if h.byReason[why]++; h.byReason[why] <= maxRefused {
		h.entries = append(h.entries, store.Held{Line: line, Outcome: guard.Refuse.String(), Guard: why.String(), Why: why.Sentence()})
	}
}

// counts returns the numbers of listings that each guard refused or holds, by "refuse GUARD" and "hold GUARD".
func (h *rejections) counts() map[string]int {
	var m map[string]int
	for g, n := range h.byGuard {
		for i, outcome := range []guard.Outcome{guard.Refuse, guard.Hold} {
			if n[i] > 0 {
				if m == nil {
					m = map[string]int{}
				}
				m[outcome.String()+" "+guard.Guard(g).String()] = n[i]
			}
		}
	}
	return m
}

// Held calls each for the stored listings and lines that are not in effect, list by list, until it returns an error, which Held returns. Call Held
// after Start.
func (l *Lists) Held(each func(store.Held) error) error {
	for _, li := range l.lists {
		emit := func(e store.Held) error {
			e.List = li.name
			return each(e)
		}
		if li.inMemory != nil {
			for _, e := range li.inMemory.rejections.entries {
				if err := emit(e); err != nil {
					return err
				}
			}
			continue
		}
		if err := l.store.ReadHeld(li.key, emit); err != nil {
			return fmt.Errorf("held and refused entries of %s: %w", li.name, err)
		}
	}
	return nil
}
