// Package format reads published lists: bytes to listings, without files and network. [Parse] detects the format of a list, or reads a
// configured one, and calls a [Sink] with each listing.
//
// Lists are untrusted input: every size is bounded, every name is checked, and a line that does not clearly list a host is refused and
// reported with a [Reason]. A listing never covers more than its line says.
package format
