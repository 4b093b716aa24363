// Package blocklist holds the set of malicious names and answers whether a name is in it.
//
// Listings are gathered per source by a [Builder], merged by [Compile] into the bytes of
// a snapshot, opened in place by [Open], and read through a [View], which a [Set] replaces as a
// whole. A bloom filter stands in front of the exact names, so that the usual name, which is not
// listed, costs one memory read a label; the exact names are compared in full, so that a
// false positive cannot happen. The package does no I/O: bytes come in and go out.
package blocklist
