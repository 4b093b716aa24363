// Package blocklist holds the set of listed names and address prefixes, and returns the verdict for a name.
//
// A [Builder] collects the listings of one source. Its result is an [Input], as is a stored [Copy] that [OpenInput] reads in pieces. [Compile]
// merges inputs into the bytes of a [Snapshot], which [Open] uses in place. A [View] is a snapshot with an overlay of later changes:
// [View.With] adds changes, [View.Compact] writes snapshot and overlay as a new snapshot. Views are immutable; a [Set] replaces the current
// one atomically, and readers take no lock.
//
// [View.Match] tests a name against a bloom filter first. The bits of a name and of the names below its last two labels are in one cache
// line, so that a name that is not listed usually costs one memory read. The filter's matches are then compared in full, so that there
// are no false positives.
//
// The package does no I/O: callers pass an io.Writer, a byte slice or an io.ReaderAt.
package blocklist
