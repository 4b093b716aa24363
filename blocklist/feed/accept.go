package feed

import (
	"fmt"

	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/store"
	"rempart/blocklist/guard"
)

// candidate is a new content of a list, with everything that decides whether it replaces the last good copy. Deciding reads and writes nothing
// except through the two functions.
type candidate struct {
	name   string
	kind   Kind
	before *store.Record // of the last good copy; nil if there is none
	after  *store.Record // of the new content

	isReleased func() bool // reports whether a person allowed the list to change out of proportion
	common     func() int  // returns the number of entries that both contents have
}

// candidate returns t as a candidate for the content of li.
func (c *copies) candidate(li *list, t *loadedList) candidate {
	return candidate{
		name: li.name, kind: li.kind, before: li.copy, after: &t.record,
		isReleased: func() bool { return c.isReleasedList(li.name) },
	}
}

// check returns a *massChange if the content changed out of proportion, unless a person released the list. A file may be emptied, and a
// small file may shrink: its owner writes it, so this is not a publisher's failure.
func (c candidate) check() error {
	if c.kind == KindAllow || c.before == nil || c.isReleased() || isEmptied(c.kind, c.before, c.after) {
		return nil
	}
	if c.after.Entries == 0 && c.before.Entries > 0 {
		return &massChange{guard.Emptied(c.before.Entries).Explain(nil), c.name}
	}
	// A change of the list's settings is intended. The numbers include listings that guards hold, so a change of the guards does not look like a change of the list.
	if c.before.Form != c.after.Form || c.before.Parser != c.after.Parser {
		return nil
	}
	was, is := contentOf(c.before), contentOf(c.after)
	f := guard.MassChange(was.Listings, is.Listings, guard.Bounds{})
	if f.Outcome == guard.Pass && c.kind == KindURL {
		common := 0
		if is.Refused >= is.Listings { // otherwise SmallList does not use it
			common = c.common()
		}
		f = guard.SmallList(was, is, common)
	}
	if f.Outcome != guard.Pass {
		return &massChange{f.Explain(nil), c.name}
	}
	return nil
}

// maxNotice is the largest number of entries of a first content that is refused as a notice.
const maxNotice = 10

// checkFirst refuses the first content of a fetched list, of that many entries, with a *massChange if it reads like a notice, such as
// "new.example", "has moved": a few names, and as many lines of prose. A person may release the list.
func (c candidate) checkFirst(entries int) error {
	if c.kind != KindURL || c.before != nil || entries == 0 || entries > maxNotice {
		return nil
	}
	prose := 0
	for _, why := range []format.Reason{format.UnknownForm, format.NotAName, format.SingleLabel} {
		prose += c.after.Refused[why.String()]
	}
	if prose < entries || c.isReleased() {
		return nil
	}
	return &massChange{fmt.Sprintf("its first content reads like a notice: %d entries and %d lines of prose", entries, prose), c.name}
}

// isEmptied reports whether the owner of a list in a file removed its last name.
func isEmptied(kind Kind, from, to *store.Record) bool {
	return kind == KindFile && from.Entries > 0 && to.Entries == 0
}

// contentOf returns the numbers by which the guards compare contents.
func contentOf(r *store.Record) guard.Content {
	return guard.Content{Listings: r.Entries + sum(r.Held), Refused: sum(r.Refused)}
}

// massChange is the error of a content that is held as a whole.
type massChange struct{ why, list string }

func (e *massChange) Error() string {
	return fmt.Sprintf("held: %s; its last good copy, if there is one, stays in force until the list is back in proportion; to take the new content, write the line \"list:%s\" into the file of REMPART_RELEASED", e.why, e.list)
}
