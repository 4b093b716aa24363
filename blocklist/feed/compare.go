package feed

import (
	"net/netip"
	"slices"

	"rempart/blocklist"
)

// Difference is a name, or a prefix of addresses, whose entries differ between two states of the set.
type Difference struct {
	Name          string            // as text; or the prefix
	Before, After []blocklist.Entry // the time since when a name is listed is not compared; empty: not listed
}

// Compare calls each for every difference between two states of the set, in no particular order, until it returns an error, which Compare
// returns. Whether a quorum is reached is compared for names, but not for prefixes. Memory is needed for the prefixes only.
func Compare(before, after *blocklist.View, each func(Difference) error) error {
	b, a := claimedPrefixes{}, claimedPrefixes{}
	err := after.Input().EachName(func(name []byte) error {
		d := Difference{Before: before.Claims(name), After: after.Claims(name)}
		if equalEntries(d.Before, d.After) {
			return nil
		}
		d.Name = blocklist.NameText(name)
		return each(d)
	}, a.add)
	if err != nil {
		return err
	}
	err = before.Input().EachName(func(name []byte) error {
		if len(after.Claims(name)) > 0 {
			return nil // was compared
		}
		return each(Difference{Name: blocklist.NameText(name), Before: before.Claims(name)})
	}, b.add)
	if err != nil {
		return err
	}
	return comparePrefixes(b, a, each)
}

// Lists returns the lists with new claims about the name, and the lists whose claims are gone; a list once for each claim.
func (d Difference) Lists() (says, said []string) {
	return saidOnlyIn(d.After, d.Before), saidOnlyIn(d.Before, d.After)
}

func saidOnlyIn(in, other []blocklist.Entry) (lists []string) {
	for _, e := range in {
		for _, source := range e.Sources {
			if !slices.ContainsFunc(other, func(o blocklist.Entry) bool { return sameClaim(o, e) && slices.Contains(o.Sources, source) }) {
				lists = append(lists, source)
			}
		}
	}
	return lists
}

// equalEntries reports whether entries differ at most in their dates. The order of entries depends on their claims, the order of sources on
// the snapshot.
func equalEntries(before, after []blocklist.Entry) bool {
	return slices.EqualFunc(before, after, sameEntry)
}

// sameEntry reports whether two entries of a name claim the same with the same force, by the same lists, whenever they began.
func sameEntry(b, a blocklist.Entry) bool {
	if !sameClaim(b, a) || b.HasQuorum != a.HasQuorum || len(b.Sources) != len(a.Sources) {
		return false
	}
	return slices.Equal(b.Sources, a.Sources) || slices.Equal(slices.Sorted(slices.Values(b.Sources)), slices.Sorted(slices.Values(a.Sources)))
}

func sameClaim(b, a blocklist.Entry) bool {
	return b.Scope == a.Scope && b.Category == a.Category && b.Mark == a.Mark && b.Decision == a.Decision &&
		b.Start == a.Start && b.Expiry == a.Expiry && b.ID == a.ID
}

// claimedPrefixes are the entries of a state by prefix of addresses.
type claimedPrefixes map[netip.Prefix][]blocklist.Entry

func (p claimedPrefixes) add(c blocklist.Change) {
	l := c.Listing
	e := blocklist.Entry{
		Name: l.Prefix.String(), Scope: l.Scope, Category: l.Category, Mark: l.Mark, Since: l.Since, Start: l.Start, Expiry: l.Expiry,
		ID: l.ID, Decision: l.Decision, HasQuorum: true,
	}
	entries := p[l.Prefix]
	for i, o := range entries {
		if sameClaim(o, e) {
			entries[i].Sources = append(entries[i].Sources, c.Source.Name)
			return
		}
	}
	e.Sources = []string{c.Source.Name}
	p[l.Prefix] = append(entries, e)
}

func comparePrefixes(before, after claimedPrefixes, each func(Difference) error) error {
	var all []netip.Prefix
	for p := range before {
		all = append(all, p)
	}
	for p := range after {
		if before[p] == nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	for _, p := range all {
		if equalEntries(before[p], after[p]) {
			continue
		}
		if err := each(Difference{p.String(), before[p], after[p]}); err != nil {
			return err
		}
	}
	return nil
}
