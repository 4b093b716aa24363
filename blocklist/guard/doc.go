// Package guard holds the checks that every listing passes before it takes effect, from a feed or from an operator: that it is a valid name, no public suffix,
// not essential and not popular; and, for a feed as a whole, that it did not change out of proportion.
// A guard refuses what is wrong for any source, and holds what a person should decide. The lists that the guards use are shipped with the package (README.md
//
// documents their origin) and can be extended. The package does no I/O.
package guard
