package guard

// Bounds says how much a feed may change from one copy to the next. A zero field takes its default.
type Bounds struct {
	Least  int // smaller feeds than that are not held: they move by chance. 1000
	Shrink int // held when fewer than one in Shrink listings are left. 2
	Grow   int // held when there are more than Grow times as many. 4
}

// The defaults stand well clear of what real feeds do. The names red.flag.domains found in thirty
// days, summed anew each day from 2022 to 2026, go from one day to the next to between 0.63 and 1.86
// of what they were; single days, of 1 to 973 names, jump seventyfold. A copy cut short, a
// login page instead of a list, or another list under the same address go far beyond.
const (
	defaultLeast  = 1000
	defaultShrink = 2
	defaultGrow   = 4
)

// MassChange judges a feed, or the set as a whole, that held before listings and is to hold after. A first
// load (before is 0) is not judged. What changes within an unchanged size is judged by two calls: with
// what is removed taken off (before, before-removed), with what is added (before, before+added).
func MassChange(before, after int, b Bounds) Finding {
	least, shrink, grow := or(b.Least, defaultLeast), or(b.Shrink, defaultShrink), or(b.Grow, defaultGrow)
	f := Finding{Outcome: Hold, Guard: Mass, a: before, b: after}
	switch {
	case before <= 0 || before < least:
		return Finding{}
	case after < before/shrink:
		f.why = shrank
	case after/grow > before || after/grow == before && after%grow > 0:
		f.why = grew
	default:
		return Finding{}
	}
	return f
}

// Content is what a list was read as.
type Content struct {
	Listings int
	Refused  int // lines that were not understood
}

// The bounds of small feeds, whose sizes move by chance: single days of red.flag.domains went from 973 names to 14.
const (
	smallLeast  = 10  // below, only the content tells
	smallShrink = 10  // held when fewer than one in ten listings are left
	smallGrow   = 100 // held when there are more than a hundred times as many
)

// SmallList judges a feed that is too small for MassChange: whether it became something else, such as a notice or the page of an
// error. common is how many of the listings before are there after, too. A first load is not judged.
func SmallList(before, after Content, common int) Finding {
	f := Finding{Outcome: Hold, Guard: Mass, a: before.Listings, b: after.Listings}
	switch {
	case before.Listings <= 0 || before.Listings >= defaultLeast:
		return Finding{}
	case before.Listings >= smallLeast && after.Listings < before.Listings/smallShrink:
		f.why = shrank
	case before.Listings >= smallLeast && after.Listings/smallGrow > before.Listings:
		f.why = grew
	case common == 0 && after.Refused > 0 && after.Refused >= after.Listings && before.Refused < before.Listings:
		f.why, f.a = becameOther, after.Refused
	default:
		return Finding{}
	}
	return f
}

// Emptied is the finding on a feed that held listings and is to hold none.
func Emptied(before int) Finding {
	return Finding{Outcome: Hold, Guard: Mass, why: emptied, a: before}
}

// or is v, or the default where v is not set.
func or(v, byDefault int) int {
	if v <= 0 {
		return byDefault
	}
	return v
}
