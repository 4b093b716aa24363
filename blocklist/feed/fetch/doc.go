// Package fetch fetches published lists into files: over HTTP with validators, zone transfers (AXFR, IXFR, with TSIG), MISP feeds and
// TAXII collections.
//
// A [Client] replaces a file only by a complete body. A list of several answers, such as a zone or a collection, becomes one body. Publishers
// are untrusted: sizes, times and redirects are bounded, and no error repeats a password, query or key.
package fetch
