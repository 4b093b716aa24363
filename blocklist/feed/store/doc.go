// Package store keeps the files of lists in the data folder: of each list the last good copy with its record, the content of a URL, and
// the listings that guards hold. It decides nothing: its callers choose which copy is used.
package store
