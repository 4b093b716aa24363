// Package guard holds the checks every listing passes before it counts, whether a feed or an
// operator brings it: that it is a name at all, no public suffix, nothing essential and nothing
// popular; and, of a feed as a whole, that it did not change out of all proportion.
//
// A guard refuses what is wrong whoever says it, and holds what a person should look at first. The
// lists it goes by are shipped with it (README.md says where they come from) and can be added to.
// The package does no I/O.
package guard
