package guard

// Bounds are the limits of a feed's change from one copy to the next. A zero field is its default.
type Bounds struct {
	Least  int // smaller feeds are not held: their size varies by chance. 1000
	Shrink int // held when fewer than one in Shrink listings are left. 2
	Grow   int // held when there are more than Grow times as many. 4
}

// The defaults are well above the changes of real feeds. The names that red.flag.domains found in thirty days, summed anew each day from 2022 to 2026, change
// from one day to the next by a factor of 0.63 to 1.86; single days, of 1 to 973 names, vary by a factor of seventy. A truncated copy, a login page instead of
// a list, or another list under the same address exceed these limits by far.
const (
	defaultLeast  = 1000
	defaultShrink = 2
	defaultGrow   = 4
)

// MassChange judges a feed, or the set as a whole, that had before listings and will have after. A first load (before is 0) is not judged. Changes within an
// unchanged size are judged by two calls: for the removed listings (before, before-removed) and for the added ones (before, before+added).
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

// Content is the content of a list in numbers.
type Content struct {
	Listings int
	Refused  int // lines that were not understood
}

// The bounds of small feeds, whose sizes vary by chance: single days of red.flag.domains had between 973 and 14 names.
const (
	smallLeast  = 10  // below, only the content decides
	smallShrink = 10  // held when fewer than one in ten listings are left
	smallGrow   = 100 // held when there are more than a hundred times as many
)

// SmallList judges a feed that is too small for MassChange: whether it became something else, such as a notice or an error page. common is the number of
// listings that were there before and are there after. A first load is not judged.
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

// Emptied returns the finding on a feed that had listings and will have none.
func Emptied(before int) Finding {
	return Finding{Outcome: Hold, Guard: Mass, why: emptied, a: before}
}

// or returns v, or the default if v is not set.
func or(v, byDefault int) int {
	if v <= 0 {
		return byDefault
	}
	return v
}
