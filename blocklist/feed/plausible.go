package feed

import (
	"fmt"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
)

// plausible returns a *massChange if the new content of li changed out of proportion, unless a person released the list. before is the
// last good copy, nil if there is none that can be read. A file may be emptied, and a small file may shrink: its owner writes it, so
// this is not a publisher's failure.
func (l *Lists) plausible(li *list, t taken, before *blocklist.Input) error {
	if li.kind == KindAllow || li.copy == nil || l.isReleasedList(li.name) || isEmptied(li, li.copy, &t.record) {
		return nil
	}
	if t.record.Entries == 0 && li.copy.Entries > 0 {
		return &massChange{guard.Emptied(li.copy.Entries).Explain(nil), li.name}
	}
	// A change of the list's settings is intended. The counts include listings that guards hold, so a change of the guards does not look like a change of the list.
	if li.copy.Form != t.record.Form || li.copy.Parser != t.record.Parser {
		return nil
	}
	was, is := contentOf(li.copy), contentOf(&t.record)
	f := guard.MassChange(was.Listings, is.Listings, guard.Bounds{})
	if f.Outcome == guard.Pass && li.kind == KindURL {
		common := 0
		if is.Refused >= is.Listings { // otherwise SmallList does not use it
			common = l.inCommon(li, t, before)
		}
		f = guard.SmallList(was, is, common)
	}
	if f.Outcome != guard.Pass {
		return &massChange{f.Explain(nil), li.name}
	}
	return nil
}

// maxNotice is how many entries a first content may have and be a notice still.
const maxNotice = 10

// plausibleFirst refuses the first content of a fetched list with a *massChange if it reads like a notice, such as "new.example", "has moved": a few
// names, and as many lines of prose. A person may release the list.
func (l *Lists) plausibleFirst(li *list, t taken, entries int) error {
	if li.kind != KindURL || li.copy != nil || entries == 0 || entries > maxNotice {
		return nil
	}
	prose := 0
	for _, why := range []format.Reason{format.UnknownForm, format.NotAName, format.SingleLabel} {
		prose += t.record.Refused[why.String()]
	}
	if prose < entries || l.isReleasedList(li.name) {
		return nil
	}
	return &massChange{fmt.Sprintf("its first content reads like a notice: %d entries and %d lines of prose", entries, prose), li.name}
}

// isEmptied reports whether the owner of a list in a file removed its last name.
func isEmptied(li *list, from, to *record) bool {
	return li.kind == KindFile && from.Entries > 0 && to.Entries == 0
}

func contentOf(r *record) guard.Content {
	return guard.Content{Listings: r.Entries + sum(r.Held), Refused: sum(r.Refused)}
}

// inCommon counts the entries that the last good copy and a new content share. If they cannot be compared, it counts all entries of the copy.
func (l *Lists) inCommon(li *list, t taken, before *blocklist.Input) int {
	common := li.copy.Entries
	if before == nil {
		return common
	}
	after := t.input
	if after == nil {
		opened, closeInput, err := l.store.open(li.key, &t.record)
		if err != nil {
			return common
		}
		defer closeInput()
		after = opened
	}
	removed := 0
	err := blocklist.Diff(before, after, func(c blocklist.Change) bool {
		if c.Withdraw {
			removed++
		}
		return true
	})
	if err != nil {
		return common
	}
	return common - removed
}

// massChange is the error for a list of which all new content is held.
type massChange struct{ why, list string }

func (e *massChange) Error() string {
	return fmt.Sprintf("held: %s; its last good copy, if there is one, stays in force until the list is back in proportion; to take the new content, write the line \"list:%s\" into the file of REMPART_RELEASED", e.why, e.list)
}
